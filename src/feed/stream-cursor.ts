/** Durable Streams 1.0, section 8.1: intervals of 20 seconds since 2024-10-09. */
const INTERVAL_MS = 20_000
const EPOCH = Date.UTC(2024, 9, 9)
/** One hour, in intervals. */
const MAX_JITTER = 180

/**
 * The cursor of a live response. Clients repeat it in their next request, so that a cache between them and this server never gives
 * them the same response for ever. If the client's cursor is not in the past, the new one is higher by a random number.
 * @param previous the parameter `cursor`; anything that is not a cursor counts as absent
 */
export function streamCursor(previous: string | undefined): string {
  const now = Math.floor((Date.now() - EPOCH) / INTERVAL_MS)
  const last = previous !== undefined && /^\d{1,15}$/.test(previous) ? Number(previous) : -1
  return String(last >= now ? last + 1 + Math.floor(Math.random() * MAX_JITTER) : now)
}

/** For a response with several cursors: they never go backwards either. */
export function streamCursors(previous: string | undefined): () => string {
  let last = Number(streamCursor(previous))
  return () => {
    // The clock may be set back.
    last = Math.max(last, Number(streamCursor(undefined)))
    return String(last)
  }
}
