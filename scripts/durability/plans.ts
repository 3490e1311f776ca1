/** The format of a body. */
export type BodyFormat =
  | 'object'
  | 'array'
  | 'lines'
  | 'structured'
  | 'batch'
  | 'binary-json'
  | 'binary-text'
  | 'binary-bytes'

/** What a request looks like. */
export interface Plan {
  format: BodyFormat
  /** Number of records. */
  count: number
  /** The records have no ids, so the server derives them from the Idempotency-Key. */
  keyed?: true
  strict?: true
  minimal?: true
  /** With a traceparent header. */
  traced?: true
  encoding?: 'gzip' | 'zstd' | 'br' | 'deflate'
  /** The record in the middle is invalid. */
  bad?: true
  /** Each record has 8 KB. */
  large?: true
}

/** One of several clients that send the same identities at the same time. */
export interface Rival extends Plan {
  /** Which content it sends: see records.ts. */
  variant: number
  /** Index of its first record, so that rivals may share only some records. Default: 0. */
  from?: number
  /** The records are in reverse order, so that rivals meet halfway. */
  reversed?: true
}

/** Lines of 8 KB each, in total three times the size of a chunk (1 MiB). */
const LONG: Plan = { format: 'lines', count: 400, large: true }
/** Every fifth pass over PLANS contains such a stream. The first one is sent when a fault is about to begin. */
const LONG_ROUND = 4
/** The index in PLANS that it replaces. */
const LONG_TURN = 2

/** The requests of clients without rivals, in this order. */
const PLANS: readonly Plan[] = [
  { format: 'object', count: 1 },
  { format: 'array', count: 5 },
  { format: 'lines', count: 30 },
  { format: 'array', count: 4, keyed: true },
  { format: 'structured', count: 1 },
  { format: 'array', count: 6, strict: true },
  { format: 'binary-json', count: 1 },
  { format: 'lines', count: 40, encoding: 'gzip' },
  { format: 'array', count: 7, minimal: true },
  { format: 'object', count: 1, keyed: true, traced: true },
  { format: 'batch', count: 5 },
  { format: 'array', count: 5, bad: true },
  { format: 'binary-text', count: 1 },
  { format: 'lines', count: 25, encoding: 'zstd', bad: true },
  { format: 'array', count: 5, strict: true, bad: true },
  { format: 'array', count: 20, encoding: 'br', traced: true },
  { format: 'binary-bytes', count: 1, strict: true },
  { format: 'batch', count: 6, strict: true, minimal: true, encoding: 'zstd' },
  { format: 'lines', count: 30, keyed: true },
  { format: 'object', count: 1, bad: true },
  { format: 'array', count: 3, keyed: true, strict: true },
  { format: 'batch', count: 16, encoding: 'deflate' },
]

/** The requests of rivals, in this order. */
const CONTESTS: readonly (readonly Rival[])[] = [
  // All have the same content: one of them creates a record, and the others get a duplicate.
  [
    { format: 'array', count: 8, variant: 0 },
    { format: 'lines', count: 8, variant: 0, reversed: true },
    { format: 'batch', count: 8, variant: 0 },
  ],
  // Each has its own content: one of them is stored, and the others get a conflict.
  [
    { format: 'array', count: 5, variant: 0 },
    { format: 'array', count: 5, variant: 1, reversed: true },
    { format: 'lines', count: 5, variant: 2 },
  ],
  // Two strict batches compete with each other and with lines.
  [
    { format: 'array', count: 6, variant: 0, strict: true },
    { format: 'array', count: 6, from: 3, variant: 1, strict: true, reversed: true },
    { format: 'lines', count: 6, from: 5, variant: 2 },
  ],
  [
    { format: 'object', count: 1, variant: 0 },
    { format: 'structured', count: 1, variant: 1 },
    { format: 'object', count: 1, variant: 1 },
  ],
  [
    { format: 'array', count: 6, variant: 0, strict: true },
    { format: 'batch', count: 6, from: 2, variant: 0, strict: true, reversed: true },
    { format: 'array', count: 6, from: 4, variant: 0, minimal: true },
  ],
  [
    { format: 'array', count: 20, variant: 0, minimal: true },
    { format: 'lines', count: 20, variant: 0, reversed: true },
    { format: 'array', count: 20, from: 15, variant: 1, minimal: true },
  ],
]

/** A request with an even number is sent by one client, and one with an odd number by rivals. */
export const isContested = (request: number): boolean => request % 2 === 1

export function planOf(request: number): Plan {
  if (isContested(request)) return rivalsOf(request)[0] as Plan
  const [turn, round] = [(request / 2) % PLANS.length, Math.floor(request / 2 / PLANS.length)]
  return turn === LONG_TURN && round % 5 === LONG_ROUND ? LONG : (PLANS[turn] as Plan)
}

export const rivalsOf = (request: number): readonly Rival[] =>
  CONTESTS[((request - 1) / 2) % CONTESTS.length] as readonly Rival[]

/** Whether this record of the request must be rejected. */
export const isBad = (request: number, index: number): boolean => {
  const { bad, count } = planOf(request)
  return bad === true && index === count >> 1
}
