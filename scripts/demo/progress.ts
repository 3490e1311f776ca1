import { SingleBar } from 'cli-progress'

/** How often a line is written where there is no terminal. */
const LINE_MS = 2_000

/** A bar on a terminal, lines elsewhere; on stderr. */
export function showProgress(total: number): { add(count: number): void; stop(): void } {
  const bar = new SingleBar({
    format: '{bar} {value} of {total} deliveries',
    noTTYOutput: true,
    notTTYSchedule: LINE_MS,
  })
  bar.start(total, 0)
  return { add: (count) => bar.increment(count), stop: () => bar.stop() }
}
