import { isUtf8 } from 'node:buffer'
import { zstdCompressSync } from 'node:zlib'
import { quoted } from '../lib/quoted.ts'
import { parseTime } from '../lib/rfc3339.ts'
import type { Counts } from '../schemas/results.ts'
import { bodyOf, idempotencyKey, type RequestChunk } from './chunks.ts'
import type { InputLine, SendableLine } from './lines.ts'
import { readObject } from './objects/json-object.ts'
import { type RetryOptions, retry } from './retry.ts'
import {
  notSluiceError,
  type ProblemDocument,
  Refused,
  readJson,
  readText,
  type Server,
  send,
  TryAgain,
} from './server.ts'
import { suggestTimeFormat } from './times.ts'

/** A line that was not stored, and why: the client or the server rejected it, or it is a conflict. */
export interface RejectedLine {
  line: InputLine
  reason: string
}

/** The results of the lines of a chunk. */
export interface Stored {
  counts: Counts
  rejected: RejectedLine[]
  /** Number of further rejected lines, which the server counted but did not list. */
  unlisted: number
  /** Whether an earlier try has an unknown outcome, so it may have stored some of the lines. */
  outcomeUnknown: boolean
}

/** The timeout of a request. The server holds requests for OUTAGE_HOLD_SECONDS in an outage; the rest is for a slow network. */
const TIMEOUT_MS = 120_000

/**
 * Sends a chunk until it gets a final response. This is safe: lines that were stored by a try without a response are duplicates
 * in the next one.
 * @throws TryAgain if all tries failed; Refused if the request was refused and not its lines; AbortError if stopped
 */
export async function storeLines(server: Server, chunk: RequestChunk, options: RetryOptions): Promise<Stored> {
  const sent = chunk.lines.filter(({ record }) => record !== undefined).length
  if (sent === 0) return NOTHING
  const body = bodyOf(chunk)
  const key = idempotencyKey(chunk)
  /** Lines that were created by tries that failed later, as far as their responses say. */
  let createdByFailedTries = 0
  let outcomeUnknown = false
  const report = await retry(async () => {
    try {
      return await post(server, body, key)
    } catch (error) {
      // If all lines are rejected, the response is final for each of them. Otherwise the request is refused, for example its key.
      if (error instanceof Refused && isReport(error.problem) && sum(error.problem.counts) === sent)
        return error.problem
      if (error instanceof TryAgain && error.problem?.outcome !== 'not_written') {
        if (isReport(error.problem)) createdByFailedTries += error.problem.counts.created
        outcomeUnknown = true
      }
      throw error
    }
  }, options)

  if (sum(report.counts) !== sent)
    throw new Error(`${server.url} received ${sent} records, but reported results for ${sum(report.counts)}`)
  const createdEarlier = Math.min(createdByFailedTries, report.counts.duplicate)
  const { created, duplicate, conflict, rejected } = report.counts
  return {
    counts: { created: created + createdEarlier, duplicate: duplicate - createdEarlier, conflict, rejected },
    rejected: report.rejections.map((rejection) => {
      const line = chunk.lines[rejection.line - 1] as SendableLine
      return { line, reason: explainRejection(rejection, line) }
    }),
    unlisted: report.rejectionsOmitted,
    outcomeUnknown,
  }
}

/** Why a line was rejected, as a sentence. What is wrong with its JSON is said with its place in the file; for a time, what an option would do. */
function explainRejection({ pointer, detail }: LinesReport['rejections'][number], { record }: SendableLine): string {
  if (pointer === undefined || pointer === '') {
    const read = readObject(record.toString())
    return 'reason' in read && isUtf8(record) ? read.reason : detail
  }
  const time = pointer === '/time' ? (JSON.parse(record.toString()) as { time?: unknown }).time : undefined
  if (typeof time !== 'string' && typeof time !== 'number') return `${pointer}: ${detail}`
  const checked = parseTime(String(time))
  if (!('problem' in checked)) return `${pointer}: ${detail}`
  const suggestion = checked.problem.startsWith('must') ? ` ${suggestTimeFormat(String(time))}` : ''
  return `${pointer}: time ${checked.problem}. It is ${quoted(String(time))}.${suggestion}`
}

const NOTHING: Stored = {
  counts: { created: 0, duplicate: 0, conflict: 0, rejected: 0 },
  rejected: [],
  unlisted: 0,
  outcomeUnknown: false,
}

async function post(server: Server, body: Buffer<ArrayBuffer>, key: string): Promise<LinesReport> {
  const { content, encoding } = pack(body)
  const response = await send(server, '/v1/records', {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson', 'idempotency-key': key, ...encoding },
    body: content,
    signal: AbortSignal.timeout(TIMEOUT_MS),
  })
  const text = await readText(response, server.url)
  const report = readJson(response, text, server.url)
  if (isReport(report)) return report
  // Not a success, whatever the status is.
  throw notSluiceError(server.url, String(response.status))
}

const sum = (counts: Counts) => Object.values(counts).reduce((one, other) => one + other)

/** The server treats a body with a higher compression ratio as an attack. */
const SUSPICIOUS_RATIO = 100

/** Compresses the body to about a sixteenth. Over loopback, where this gains nothing, it costs 3 % of the throughput. */
function pack(body: Buffer<ArrayBuffer>): { content: Buffer<ArrayBuffer>; encoding: Record<string, string> } {
  const packed = zstdCompressSync(body)
  return packed.length * SUSPICIOUS_RATIO < body.length
    ? { content: body, encoding: {} }
    : { content: packed, encoding: { 'content-encoding': 'zstd' } }
}

/** The members of LinesReportSchema that are used here. */
interface LinesReport {
  counts: Counts
  lines: number
  rejections: { line: number; pointer?: string; detail: string }[]
  rejectionsOmitted: number
}

function isReport(value: unknown): value is LinesReport & Partial<ProblemDocument> {
  const report = value as LinesReport | null | undefined
  return typeof report?.counts?.created === 'number' && Array.isArray(report.rejections)
}
