import { spawnSync } from 'node:child_process'
import t from 'tap'
import { showProgress } from '../../src/client/progress.ts'
import { stopClock } from '../helpers/clock.ts'
import { missing } from '../helpers/skipping.ts'

t.test('without a terminal, a line every five seconds has the percentage and the time left', async (t) => {
  const lines = t.capture(console, 'error').args
  const clock = stopClock(t)
  const progress = showProgress(1000)
  progress.update(100, '10 records')
  await clock.tick(2500)
  progress.update(250, '25 records')
  await clock.tick(2500)
  progress.note('Unavailable; trying again in 1.0 s')
  // Nothing new.
  await clock.tick(5000)
  progress.update(500, '50 records')
  await clock.tick(5000)
  progress.stop()
  await clock.tick(20_000)
  t.same(lines(), [['25 records, 25%, 8s left'], ['Unavailable; trying again in 1.0 s'], ['50 records, 50%, 10s left']])
})

t.test('if the total is unknown, progress shows neither a percentage nor the time left', async (t) => {
  const lines = t.capture(console, 'error').args
  const clock = stopClock(t)
  const progress = showProgress(undefined)
  progress.update(100, '10 records')
  await clock.tick(5000)
  progress.stop()
  t.same(lines(), [['10 records']])
})

// `script` is part of util-linux. It runs a command on a terminal of its own.
const skip = missing('script')

t.test('on a terminal, progress is a bar', { skip }, async (t) => {
  const program = `import { showProgress } from './src/client/progress.ts'
    const progress = showProgress(1000)
    progress.update(500, '50 records')
    progress.stop()`
  const command = `${process.execPath} --input-type=module -e "${program.replaceAll('\n', ' ; ')}"`
  const { stdout } = spawnSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8' })
  t.match(stdout, /={12}-{12} 50 records, 50%, \d+s left/)
})

// The library ended the bar at the first Ctrl-C, although requests were still running, and the summary was written over the
// rest of it.
t.test('on a terminal, the bar continues after Ctrl-C, and the cursor is visible at the end', { skip }, async (t) => {
  const program = `import { showProgress } from './src/client/progress.ts'
    process.on('SIGINT', () => { progress.note('Ending'); progress.update(700, '70 records'); progress.note('Ending'); process.exit(0) })
    const progress = showProgress(1000)
    progress.update(500, '50 records')
    process.kill(process.pid, 'SIGINT')
    setTimeout(() => {}, 60000)`
  const command = `${process.execPath} --input-type=module -e "${program.replaceAll('\n', ' ; ')}"`
  const { stdout } = spawnSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8' })
  t.match(stdout, /70 records, 70%, \d+s left – Ending/)
  t.ok(stdout.lastIndexOf('\u001b[?25h') > stdout.lastIndexOf('70 records'), 'the cursor is shown')
  t.match(stdout.slice(stdout.lastIndexOf('70 records')), '\n', 'on a line of its own')
})
