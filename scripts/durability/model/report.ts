import type { Attempt, Finding, History } from './history.ts'

/** Maximum number of events, and of faults, in the description of a finding. */
const MOST = 40

/** Describes a finding with the requests, responses and reads of its identity, and the faults at the time. */
export function describe({ rule, at, detail, identity }: Finding, history: History): string {
  const lines = [`${rule}`, `  found at ${at} ms${detail === '' ? '' : `: ${detail}`}`]
  if (identity === undefined) return lines.join('\n')
  const { attempts, sightings, absences } = history.of(identity)
  lines.push(`  ${identity}`)
  const events = [
    ...attempts.map((attempt) => ({
      begin: attempt.exchange.begin,
      end: attempt.exchange.end,
      text: describeAttempt(attempt),
    })),
    ...sightings.map(({ by, begin, end, cursor, digest }) => ({ begin, end, text: `${by}: ${digest} at ${cursor}` })),
    ...absences.map(({ begin, end }) => ({ begin, end, text: 'a read: 404' })),
  ].sort((one, other) => one.begin - other.begin)
  lines.push(...events.slice(0, MOST).map(({ begin, end, text }) => `    ${begin}–${end} ms  ${text}`))
  if (events.length > MOST) lines.push(`    and ${events.length - MOST} more`)
  const [first, last] = [events[0]?.begin ?? 0, Math.max(...events.map(({ end }) => end))]
  const faults = history.faults.filter(({ begin, end }) => begin <= last && end >= first)
  lines.push(...faults.slice(0, MOST).map(({ begin, end, what }) => `    ${begin}–${end} ms  FAULT ${what}`))
  return lines.join('\n')
}

function describeAttempt({ exchange, index, key, digest, claim, cursor }: Attempt): string {
  const { number, what, port, response } = exchange
  return `request ${number}, record ${index} (${what}; port ${port}): ${key} = ${digest}; ${claim} ${cursor ?? ''} (${response})`
}
