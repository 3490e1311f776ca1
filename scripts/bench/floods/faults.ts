import type { Result } from './measure.ts'

/** Limits for the memory of Sluice and for the latency of the other key. */
const LIMIT_MIB = 512
const LIMIT_P99_MS = 1000
/** Share of the other key's requests that may fail. If more fail, there is no p99 over all requests. */
const LIMIT_FAILED = 0.01
/** Requests per connection. A flood with fewer did not attack, so its result shows nothing. */
const MIN_ATTACKS = 0.5

/**
 * Finds what is wrong with the server under a flood, or with the flood itself.
 * @param connections the number of connections of the flood
 */
export function findFaults({ peak, end, attacks, post, batch, get }: Result, connections: number): string[] {
  const noticed = Object.entries({ POST: post, batch, GET: get }).flatMap(
    ([kind, { requests, failures, failure, p99_ms = Number.POSITIVE_INFINITY }]) => [
      ...(failures > requests * LIMIT_FAILED
        ? [`${failures} of ${requests} requests (${kind}) of another key failed (${failure})`]
        : []),
      ...(failures < requests && p99_ms >= LIMIT_P99_MS
        ? [`p99 of the requests (${kind}) of another key was ${Math.round(p99_ms)} ms`]
        : []),
    ],
  )
  return [
    ...(end === undefined
      ? []
      : [`the server ended (${end}${end === 'SIGABRT' ? ', which V8 raises when its heap is full' : ''})`]),
    ...(inMiB(peak) >= LIMIT_MIB ? [`the server used ${inMiB(peak)} MiB`] : []),
    ...(attacks < connections * MIN_ATTACKS
      ? [`the flood was too weak: ${attacks} requests on ${connections} connections`]
      : []),
    ...noticed,
  ]
}

export const inMiB = (bytes: number): number => Math.ceil(bytes / 2 ** 20)
