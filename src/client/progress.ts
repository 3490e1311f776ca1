import { SingleBar } from 'cli-progress'
import { printable } from '../lib/printable.ts'

/** Time between two lines if there is no terminal, so that the log of a long run stays readable. */
const LINE_MS = 5_000

export interface Progress {
  /**
   * @param done of the total
   * @param shown the progress in words
   */
  update(done: number, shown: string): void
  /** Shows a message for now. */
  note(text: string): void
  stop(): void
}

/**
 * Shows progress on stderr: a bar on a terminal, otherwise a line every few seconds.
 * @param total undefined: unknown; then neither the percentage nor the remaining time is shown
 */
export function showProgress(total: number | undefined): Progress {
  const begin = performance.now()
  const bar = process.stderr.isTTY === true ? startBar(total) : startLines()
  return {
    update: (done, shown) => bar.update(done, [shown, ...(total === undefined ? [] : expect(done, total))].join(', ')),
    note: (text) => bar.note(printable(text)),
    stop: bar.stop,
  }

  function expect(done: number, total: number): string[] {
    const seconds = (performance.now() - begin) / 1000
    const left = done === 0 ? [] : [`${duration((seconds * (total - done)) / done)} left`]
    return [`${Math.floor((100 * done) / Math.max(total, 1))}%`, ...left]
  }
}

function startBar(total: number | undefined): Progress {
  const format = total === undefined ? '{shown}{note}' : '{bar} {shown}{note}'
  // A graceful exit would end the bar with the first Ctrl-C, but requests are still running then.
  const bar = new SingleBar({ format, barsize: 24, linewrap: false, hideCursor: true, gracefulExit: false })
  bar.start(total ?? 0, 0, { shown: '', note: '' })
  const end = () => bar.stop()
  // A second Ctrl-C ends the process, and would leave the terminal without a cursor.
  process.once('exit', end)
  return {
    // An update removes the message.
    update: (done, shown) => bar.update(done, { shown, note: '' }),
    note: (text) => bar.update({ note: ` – ${text}` }),
    stop: () => {
      process.off('exit', end)
      end()
    },
  }
}

function startLines(): Progress {
  let line = ''
  const timer = setInterval(() => {
    if (line !== '') console.error(line)
    line = ''
  }, LINE_MS)
  return {
    update: (_done, shown) => {
      line = shown
    },
    note: (text) => console.error(text),
    stop: () => clearInterval(timer),
  }
}

function duration(seconds: number): string {
  const whole = Math.ceil(seconds)
  if (whole < 60) return `${whole}s`
  if (whole < 3600) return `${Math.floor(whole / 60)}m${String(whole % 60).padStart(2, '0')}s`
  return `${Math.floor(whole / 3600)}h${String(Math.floor(whole / 60) % 60).padStart(2, '0')}m`
}

export const count = (value: number) => value.toLocaleString('en')
