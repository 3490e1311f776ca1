import { Temporal } from 'temporal-polyfill'
import type { ToUtc } from '../times.ts'

/** @throws Error with a sentence if there is no such time zone */
export function timeZone(name: string): ToUtc {
  try {
    Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO(name)
  } catch {
    throw new Error(`there is no time zone ${name}. Use a name such as Europe/Berlin, America/New_York or UTC`)
  }
  return (local, isDate) => {
    try {
      // A date is the start of its day: in some time zones, the clocks are changed at midnight.
      const disambiguation = isDate ? 'compatible' : 'reject'
      // At most nanoseconds. Sluice keeps microseconds.
      return Temporal.PlainDateTime.from(local.slice(0, 29))
        .toZonedDateTime(name, { disambiguation })
        .toInstant()
        .toString()
    } catch {
      return undefined
    }
  }
}
