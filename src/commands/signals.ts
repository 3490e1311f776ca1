/** Under npm, a Ctrl-C arrives twice: from the terminal and from npm. */
const SAME_SIGNAL_MS = 300

/** Calls `onFirst` on the first of these signals, and `onSecond` on a further one that is not the same Ctrl-C. */
export function onSignals(
  signals: readonly NodeJS.Signals[],
  onFirst: (signal: NodeJS.Signals) => void,
  onSecond: (signal: NodeJS.Signals) => void,
): void {
  let first: number | undefined
  const onSignal = (signal: NodeJS.Signals) => {
    if (first === undefined) {
      first = performance.now()
      onFirst(signal)
    } else if (performance.now() - first >= SAME_SIGNAL_MS) onSecond(signal)
  }
  for (const signal of signals) process.on(signal, onSignal)
}
