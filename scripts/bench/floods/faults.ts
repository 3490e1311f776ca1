import type { Result } from './measure.ts'

/** The bar: the most memory of our server, and what another key may notice. */
const LIMIT_MIB = 512
const LIMIT_P99_MS = 1000
/** Of the other key's requests; more, and 99 % of them were not answered within any time. */
const LIMIT_FAILED = 0.01
/** Of its connections: a flood with fewer requests than this attacked nothing, and shows nothing. */
const LEAST_ATTACKS = 0.5

/**
 * What is wrong with the server under a flood, or with the flood.
 * @param connections of the flood
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
      : [`the server ended by ${end}${end === 'SIGABRT' ? ', as V8 does when its heap is full' : ''}`]),
    ...(inMiB(peak) >= LIMIT_MIB ? [`the server had ${inMiB(peak)} MiB`] : []),
    ...(attacks < connections * LEAST_ATTACKS
      ? [`the flood was none: ${attacks} requests for ${connections} connections`]
      : []),
    ...noticed,
  ]
}

export const inMiB = (bytes: number): number => Math.ceil(bytes / 2 ** 20)
