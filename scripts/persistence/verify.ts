import { createHash, randomUUID } from 'node:crypto'
import type { Api, Sent } from './api.ts'
import { makeRecord, startWriter } from './writer.ts'

/** The PostgreSQL that is restarted. */
export interface Target {
  /** Identifies the storage of the data: a PersistentVolumeClaim with its UID, or a folder. */
  volume(): Promise<string>
  /** Restarts PostgreSQL while clients are connected. Resolves when it accepts connections again. */
  restart(): Promise<void>
  close(): Promise<void>
  /** URL and key of the API, if the target starts its own API. */
  url?: string
  key?: string
}

export interface Verdict {
  findings: Record<string, { before: unknown; after: unknown }>
  /** What is wrong. Empty if nothing is. */
  complaints: string[]
}

/** Records per request. */
const BATCH = 500
/** The writer has this many records acknowledged before the restart and again after it, so that it writes during the restart. */
const AROUND = 20

/**
 * Stores `count` records, restarts PostgreSQL while a writer keeps storing others, and checks that the content is the same as
 * before and that every acknowledged record is stored.
 * @param say shows the progress
 */
export async function verifyPersistence(
  api: Api,
  target: Target,
  count: number,
  say: (line: string) => void = () => {},
): Promise<Verdict> {
  const run = `persistence/${randomUUID()}`
  const [stored, ongoing] = [`${run}/stored`, `${run}/ongoing`]
  const records = Array.from({ length: count }, (_, n) => makeRecord(n))
  // First, because it fails at once if kubectl does not work.
  const volume = await target.volume()
  say(`storing ${count} records`)
  for (let i = 0; i < count; i += BATCH) await api.store(stored, records.slice(i, i + BATCH))

  const before = { volume, records: await api.readAll(stored) }
  say('restarting PostgreSQL while records are being stored')
  const writer = startWriter(api, ongoing)
  while (writer.acknowledged.length < AROUND) await new Promise((resolve) => setTimeout(resolve, 10))
  await target.restart()
  const during = writer.acknowledged.length
  say('PostgreSQL is available again: comparing all records')
  await writer.stop(AROUND)
  const after = { volume: await target.volume(), records: await api.readAll(stored) }

  const acknowledged = await api.readAll(ongoing)
  const lost = writer.acknowledged.filter((record) => !isKept(record, acknowledged))
  const complaints = [
    ...complainUnless(before.volume === after.volume, `the volume changed from ${before.volume} to ${after.volume}`),
    ...complainUnless(hashOf(before.records) === hashOf(after.records), 'the content changed'),
    ...complainUnless(
      records.every((record) => isKept(record, after.records)) && after.records.size === count,
      `${after.records.size} of ${count} records are stored, or their content differs from what was sent`,
    ),
    ...complainUnless(lost.length === 0, `acknowledged, but missing or altered: ${lost.map(({ id }) => id).join(' ')}`),
  ]
  const findings = {
    volume: { before: before.volume, after: after.volume },
    records: { before: before.records.size, after: after.records.size },
    'content (SHA-256)': { before: hashOf(before.records), after: hashOf(after.records) },
    'acknowledged by the writer': { before: during, after: writer.acknowledged.length },
    'of these stored': { before: '', after: writer.acknowledged.length - lost.length },
    'longest pause (ms)': { before: '', after: Math.round(writer.longestPauseMs()) },
  }
  return { findings, complaints }
}

function isKept({ id, data }: Sent, found: Map<string, unknown>): boolean {
  const kept = found.get(id) as Sent['data'] | undefined
  return kept?.n === data.n && kept.text === data.text
}

/** Does not depend on the order of the records. */
function hashOf(records: Map<string, unknown>): string {
  const lines = [...records].map(([id, data]) => JSON.stringify([id, data])).sort()
  return createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 16)
}

const complainUnless = (kept: boolean, complaint: string): string[] => (kept ? [] : [complaint])
