import type { Shown } from './contents.ts'
import { type History, identityOf } from './history.ts'

/**
 * Adds the records of a response to the history.
 * @param by the reader
 * @param begin when the request began
 * @param read reads the records from the response
 * @returns the records, or none if the response cannot be read
 */
export function see(history: History, by: string, begin: number, read: () => Shown[]): Shown[] {
  let records: Shown[]
  try {
    records = read()
  } catch (error) {
    history.complain('A response to a read must be valid JSON.', `${by}: ${error}`)
    return []
  }
  for (const { source, id, cursor, digest } of records) {
    const identity = identityOf(source, id)
    if (!history.identities.has(identity))
      history.complain('A record that is shown must have been sent.', `${by}: ${identity}`)
    else history.of(identity).sightings.push({ by, begin, end: history.now(), cursor, digest })
  }
  return records
}
