import { isNear } from '../../lib/nearest.ts'

/** What is compared of a path. Anyone can send a long one, without a key, and its end says nothing about its beginning. */
const MAX_LENGTH = 200
const MAX_SEGMENTS = 8

/**
 * The path that a client probably meant: the one with most segments in common. `/records`, `/api/v1/record` and `/v2/Recrods/` are
 * nearest to `/v1/records`.
 * @param paths templates of paths, in order of preference, with parameters as in `:id`
 */
export function nearestPath(path: string, paths: readonly string[]): string {
  const given = segmentsOf(path)
  const common = (template: string) =>
    segmentsOf(template).filter((one) =>
      given.some((other) => one.startsWith(other) || other.startsWith(one) || isNear(one, other)),
    ).length
  const nearest = paths.reduce((best, template) => (common(template) > common(best) ? template : best))
  return nearest.replaceAll(/:(\w+)/g, '{$1}')
}

const segmentsOf = (path: string) =>
  path.slice(0, MAX_LENGTH).toLowerCase().split('/').filter(Boolean).slice(0, MAX_SEGMENTS)
