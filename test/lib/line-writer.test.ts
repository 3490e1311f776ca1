import { execFileSync } from 'node:child_process'
import { closeSync, constants, existsSync, openSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { LineWriter } from '../../src/lib/line-writer.ts'
import { skipUnless } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

const skip = skipUnless(existsSync('/dev/full'), 'there is no /dev/full')
const MAX = { maxBytes: 1_000_000, onDropped: () => {} }

t.test('lines that a non-blocking pipe has no room for are written later, in order', async (t) => {
  const path = join(t.testdir(), 'pipe')
  execFileSync('mkfifo', [path])
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
  t.teardown(() => closeSync(fd))
  const writer = new LineWriter(fd, MAX)
  const lines = Array.from({ length: 3_000 }, (_, n) => `${n} ${'x'.repeat(90)}\n`)
  for (const line of lines) writer.write(line)
  let isFlushed = false
  writer.flush(() => {
    isFlushed = true
  })
  let text = ''
  await until('all lines', () => {
    text += readAll(fd)
    return isFlushed
  })
  t.equal(text + readAll(fd), lines.join(''))
})

t.test('a flush to a full disk ends, and the end of the process does not wait', { skip }, async (t) => {
  const fd = openSync('/dev/full', 'w')
  t.teardown(() => closeSync(fd))
  const writer = new LineWriter(fd, MAX)
  for (let n = 0; n < 3; n++) {
    writer.write('a line\n')
    await new Promise<void>((resolve) => writer.flush(resolve))
  }
  writer.end('the last line\n')
})

// An asynchronous write that begins while the process ends is lost.
t.test('at the end of the process, the last lines are written synchronously', async (t) => {
  const file = join(t.testdir({}), 'log')
  const fd = openSync(file, 'w')
  t.teardown(() => closeSync(fd))
  new LineWriter(fd, MAX).end('the last line\n')
  t.equal(readFileSync(file, 'utf8'), 'the last line\n')
})

t.test('what exceeds the memory is dropped and counted', async (t) => {
  const path = join(t.testdir(), 'pipe')
  execFileSync('mkfifo', [path])
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
  t.teardown(() => closeSync(fd))
  const counts: number[] = []
  const writer = new LineWriter(fd, { maxBytes: 200_000, onDropped: (lines) => counts.push(lines) })
  for (let n = 0; n < 300; n++) writer.write(`${'x'.repeat(999)}\n${'y'.repeat(999)}\n`)
  await until('the pipe to be read', () => readAll(fd) === '' && counts.length > 0)
  t.same(counts, [400])
})

function readAll(fd: number): string {
  const buffer = Buffer.alloc(65_536)
  try {
    return buffer.subarray(0, readSync(fd, buffer)).toString()
  } catch {
    // EAGAIN: it is empty.
    return ''
  }
}
