import t from 'tap'
import { formatSize, nearSizes, parseSize } from '../../src/lib/size.ts'

t.test('a size is a number and a unit', async (t) => {
  for (const [text, bytes] of [
    ['1B', 1],
    ['2kB', 2000],
    ['2KiB', 2048],
    ['1.5GB', 1_500_000_000],
    ['0.5GB', undefined],
    ['1.0005kB', undefined],
    ['999999999TiB', 999_999_999 * 2 ** 40],
    ['1', undefined],
    ['1K', undefined],
    [' 1B', undefined],
    ['1B\n', undefined],
    ['', undefined],
  ] as const)
    t.equal(parseSize(text), bytes, JSON.stringify(text))
})

t.test('a number of bytes is written with the largest unit that divides it', async (t) => {
  for (const [bytes, text] of [
    [67_108_864, '64MiB'],
    [1024, '1KiB'],
    [1_000_000, '1000000B'],
    [1, '1B'],
  ] as const)
    t.equal(formatSize(bytes), text)
})

t.test('a size with another unit, or written in another way, is near to one or two', async (t) => {
  for (const [text, sizes] of [
    ['1mb', ['1MB']],
    ['10Gi', ['10GiB']],
    ['10gib', ['10GiB']],
    ['64KB', ['64kB']],
    ['64k', ['64kB', '64KiB']],
    ['1,5 GB', ['1.5GB']],
    ['2 megabytes', []],
    ['0.5GB', []],
    ['12', []],
    ['1MB', []],
    ['', []],
  ] as const)
    t.strictSame(nearSizes(text), sizes, text)
})
