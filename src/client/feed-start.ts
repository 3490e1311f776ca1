import { parseTime } from '../lib/rfc3339.ts'
import { timeHint } from '../lib/time-hint.ts'
import { readHead } from './feed.ts'
import { request } from './request.ts'
import { readJson, type Server, TryAgain } from './server.ts'

/** The start of the feed. */
const START = '-1'

/** Offsets are long. What is in them may change, and the server checks it. */
const OFFSET = /^\w{20,}$/

/** Finds an offset to begin at. */
export type Start = (server: Server, stop: AbortSignal) => Promise<string>

/** Reads where to begin: `start`, `now`, a time or an offset. @throws Error with a sentence if it is something else */
export function readStart(text: string): Start {
  if (text === 'start' || text === START) return async () => START
  if (text === 'now') return readHead
  if (OFFSET.test(text)) return async () => text
  const time = parseTime(text)
  if ('utc' in time) return (server, stop) => offsetBefore(time.utc, server, stop)
  throw new Error(
    `--from must be start, now, an offset such as the cursor of a record, or an RFC 3339 time such as 2026-01-31T12:00:00Z.${timeHint(text)}`,
  )
}

/**
 * How much a record that is earlier in the feed may have been received later than another one. The feed has the order in which transactions
 * got their ids, and the time of receipt is their start. More than this would be a clock that was set back.
 */
const MARGIN_MS = 3_600_000

/** The offset before all records that were received at this time or later, and close to the first one in the feed. */
async function offsetBefore(utc: string, server: Server, stop: AbortSignal): Promise<string> {
  // Before the search: a record that is added during it is after this offset.
  const head = await readHead(server, stop)
  // Without an index for this, the server examines the feed from its end, and then one hour of it, not everything from the start.
  const until = new Date(Date.parse(utc) - MARGIN_MS).toISOString()
  // In the first hour of the year 1, it is outside of the years that the server accepts. No record is earlier.
  const isAccepted = 'utc' in parseTime(until)
  const earlier = isAccepted ? await findCursor({ order: 'desc', receivedUntil: until }).catch(skipIfSlow) : undefined
  const first = await findCursor({ order: 'asc', receivedFrom: utc, ...(earlier && { cursor: earlier }) })
  if (first === undefined) return head
  // In ascending order, the list ends where the feed does. So no record will be added between the previous one and this one.
  return (await findCursor({ order: 'desc', cursor: first })) ?? START

  /** The cursor of the first record of a list. */
  async function findCursor(list: Record<string, string>): Promise<string | undefined> {
    const query = new URLSearchParams({ ...list, limit: '1', fields: 'cursor' })
    const answer = await request(server, `/v1/records?${query}`, { headers: { accept: 'application/json' } }, stop)
    const { records } = readJson(answer, answer.text, server.url) as { records: { cursor: string }[] }
    return records[0]?.cursor
  }
}

/** If the end of the feed is too far away for the time limit of a query, the start may be near. */
function skipIfSlow(error: unknown): undefined {
  if (!(error instanceof TryAgain && error.problem?.code === 'query_timeout')) throw error
}
