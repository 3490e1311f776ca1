import t from 'tap'
import { nearestPath } from '../../../src/plugins/unmatched/nearest-path.ts'

const PATHS = ['/v1/records', '/v1/records/:source/:id', '/v1/keys', '/healthz']

t.test('a long path costs no more comparisons than a short one: anyone can send it, without a key', async (t) => {
  const short = comparisons('/xy'.repeat(8))
  t.ok(short > 20, `${short} comparisons`)
  for (const path of ['/xy'.repeat(5_000), `/${'x'.repeat(15_000)}`, '/'.repeat(15_000)])
    t.ok(comparisons(path) <= short, path.slice(0, 10))
  t.equal(nearestPath(`/key/${'x'.repeat(15_000)}`, PATHS), '/v1/keys', 'the beginning is still compared')
})

/** How often the search compares two segments. */
function comparisons(path: string): number {
  const { prototype } = String
  const { startsWith } = prototype
  let count = 0
  Object.defineProperty(prototype, 'startsWith', {
    configurable: true,
    writable: true,
    value(this: string, start: string) {
      count++
      return startsWith.call(this, start)
    },
  })
  try {
    nearestPath(path, PATHS)
  } finally {
    Object.defineProperty(prototype, 'startsWith', { configurable: true, writable: true, value: startsWith })
  }
  return count
}
