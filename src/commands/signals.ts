/** Ctrl-C under npm arrives twice: from the terminal, and passed on by npm. */
const SAME_SIGNAL_MS = 300

/** Calls `onFirst` at the first of these signals, and `onSecond` at one that is another one. */
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
