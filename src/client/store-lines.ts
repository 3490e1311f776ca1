import { zstdCompressSync } from 'node:zlib'
import { bodyOf, type Chunk, idempotencyKey } from './chunks.ts'
import type { InputLine } from './lines.ts'
import { type RetryOptions, retry } from './retry.ts'
import { isOther, type ProblemDocument, Refused, readText, type Server, send, TryAgain } from './server.ts'

export type Counts = Record<'created' | 'duplicate' | 'conflict' | 'rejected', number>

/** A line that was not stored, and why. */
export interface RefusedLine {
  line: InputLine
  reason: string
}

/** What became of the lines of a chunk. */
export interface Stored {
  counts: Counts
  refused: RefusedLine[]
  /** Refused lines that were counted and not named. */
  unnamed: number
  /** Was there a request before, of which nobody knows what it stored? */
  unheard: boolean
}

/** The server holds a request while its database is away: OUTAGE_HOLD_SECONDS, and some more for a slow line. */
const PATIENCE_MS = 120_000

/**
 * Sends a chunk until there is an answer that stays. The ids make that safe: what an unheard answer stored is a
 * duplicate then.
 * @throws TryAgain when it was tried often enough; Refused when it is not about the lines; AbortError when stopped
 */
export async function storeLines(server: Server, chunk: Chunk, options: RetryOptions): Promise<Stored> {
  if (chunk.lines.length === 0) return NOTHING
  const body = bodyOf(chunk)
  const key = idempotencyKey(chunk, body)
  /** Stored by requests that failed later, as far as they said so. */
  let createdBefore = 0
  let unheard = false
  const report = await retry(async () => {
    try {
      return await post(server, body, key)
    } catch (error) {
      // All lines refused is an answer to each of them. What else is refused is the request: the key, for one.
      if (error instanceof Refused && isReport(error.problem) && sum(error.problem.counts) === chunk.lines.length)
        return error.problem
      if (error instanceof TryAgain && error.problem?.outcome !== 'not_written') {
        if (isReport(error.problem)) createdBefore += error.problem.counts.created
        unheard = true
      }
      throw error
    }
  }, options)

  if (sum(report.counts) !== chunk.lines.length)
    throw new Error(
      `${server.url} was sent ${chunk.lines.length} records, and says what became of ${sum(report.counts)}`,
    )
  const ours = Math.min(createdBefore, report.counts.duplicate)
  const { created, duplicate, conflict, rejected } = report.counts
  return {
    counts: { created: created + ours, duplicate: duplicate - ours, conflict, rejected },
    refused: report.rejections.map(({ line, pointer, detail }) => ({
      line: chunk.lines[line - 1] as InputLine,
      reason: pointer === undefined || pointer === '' ? detail : `${pointer}: ${detail}`,
    })),
    unnamed: report.rejectionsOmitted,
    unheard,
  }
}

const NOTHING: Stored = {
  counts: { created: 0, duplicate: 0, conflict: 0, rejected: 0 },
  refused: [],
  unnamed: 0,
  unheard: false,
}

async function post(server: Server, body: Buffer<ArrayBuffer>, key: string): Promise<LinesReport> {
  const { content, encoding } = pack(body)
  const response = await send(server, '/v1/records', {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson', 'idempotency-key': key, ...encoding },
    body: content,
    signal: AbortSignal.timeout(PATIENCE_MS),
  })
  const text = await readText(response, server.url)
  const report = parse(text)
  if (isReport(report)) return report
  // Not taken for a success, whatever the status was.
  throw isOther(server.url, String(response.status))
}

const sum = (counts: Counts) => Object.values(counts).reduce((one, other) => one + other)

/** A server takes what inflates this far for an attack. */
const SUSPICIOUS_RATIO = 100

/** Some sixteenth of the bytes. Over loopback, where that is worth nothing, it costs 3 % of the rate. */
function pack(body: Buffer<ArrayBuffer>): { content: Buffer<ArrayBuffer>; encoding: Record<string, string> } {
  const packed = zstdCompressSync(body)
  return packed.length * SUSPICIOUS_RATIO < body.length
    ? { content: body, encoding: {} }
    : { content: packed, encoding: { 'content-encoding': 'zstd' } }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** LinesReportSchema, as far as it is read here. */
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
