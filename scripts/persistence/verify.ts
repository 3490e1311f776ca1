import { createHash, randomUUID } from 'node:crypto'
import type { Api, Sent } from './api.ts'
import { makeRecord, startWriter } from './writer.ts'

/** The PostgreSQL that is restarted. */
export interface Target {
  /** What the data lies on, by name: a PersistentVolumeClaim and its UID, or a folder. */
  volume(): Promise<string>
  /** Stops PostgreSQL without asking anyone; returns when it accepts connections again. */
  restart(): Promise<void>
  close(): Promise<void>
  /** Of the API, where the target brings its own. */
  url?: string
  key?: string
}

export interface Verdict {
  findings: Record<string, { before: unknown; after: unknown }>
  /** What is not as it has to be; none: all is well. */
  complaints: string[]
}

/** Records in a request. */
const BATCH = 500
/** Acknowledged before the restart, and again after it: it falls between two answers. */
const AROUND = 20

/**
 * Stores `count` records, restarts PostgreSQL while a writer goes on storing others, and compares what was there before
 * and what was acknowledged with what is there then.
 */
export async function verifyPersistence(api: Api, target: Target, count: number): Promise<Verdict> {
  const run = `persistence/${randomUUID()}`
  const [stored, ongoing] = [`${run}/stored`, `${run}/ongoing`]
  const records = Array.from({ length: count }, (_, n) => makeRecord(n))
  for (let i = 0; i < count; i += BATCH) await api.store(stored, records.slice(i, i + BATCH))

  const before = { volume: await target.volume(), records: await api.readAll(stored) }
  const writer = startWriter(api, ongoing)
  while (writer.acknowledged.length < AROUND) await new Promise((resolve) => setTimeout(resolve, 10))
  await target.restart()
  const during = writer.acknowledged.length
  await writer.stop(AROUND)
  const after = { volume: await target.volume(), records: await api.readAll(stored) }

  const acknowledged = await api.readAll(ongoing)
  const lost = writer.acknowledged.filter((record) => !isKept(record, acknowledged))
  const complaints = [
    ...complainUnless(before.volume === after.volume, `the volume is another: ${before.volume}, then ${after.volume}`),
    ...complainUnless(hashOf(before.records) === hashOf(after.records), 'the content is another than before'),
    ...complainUnless(
      records.every((record) => isKept(record, after.records)) && after.records.size === count,
      `of ${count} records ${after.records.size} are there, or their content is not what was sent`,
    ),
    ...complainUnless(lost.length === 0, `acknowledged, and missing or altered: ${lost.map(({ id }) => id).join(' ')}`),
  ]
  const findings = {
    volume: { before: before.volume, after: after.volume },
    records: { before: before.records.size, after: after.records.size },
    'content (SHA-256)': { before: hashOf(before.records), after: hashOf(after.records) },
    'acknowledged meanwhile': { before: during, after: writer.acknowledged.length },
    'of these there': { before: '', after: writer.acknowledged.length - lost.length },
    'longest pause (ms)': { before: '', after: Math.round(writer.longestPauseMs()) },
  }
  return { findings, complaints }
}

function isKept({ id, data }: Sent, found: Map<string, unknown>): boolean {
  const kept = found.get(id) as Sent['data'] | undefined
  return kept?.n === data.n && kept.text === data.text
}

/** Of what is stored, whatever its order. */
function hashOf(records: Map<string, unknown>): string {
  const lines = [...records].map(([id, data]) => JSON.stringify([id, data])).sort()
  return createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 16)
}

const complainUnless = (kept: boolean, complaint: string): string[] => (kept ? [] : [complaint])
