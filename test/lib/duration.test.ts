import t from 'tap'
import { duration } from '../../src/lib/duration.ts'

t.test('a length of time in words', async (t) => {
  for (const [seconds, text] of [
    [0, '0 seconds'],
    [1.9, '1 second'],
    [119, '119 seconds'],
    [120, '2 minutes'],
    [7199, '119 minutes'],
    [7200, '2 hours'],
    [172_799, '47 hours'],
    [172_800, '2 days'],
    [1e7, '115 days'],
  ] as const)
    t.equal(duration(seconds), text)
})
