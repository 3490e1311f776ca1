import { JsonWalk } from './json-walk.ts'
import type { Unstorable } from './unstorable.ts'

/**
 * The first thing in a payload that PostgreSQL's jsonb, and with it every query on the data, could not hold: U+0000 or a
 * lone surrogate in a string or a name, or a number beyond numeric. Called for suspicious text only.
 * @param text    one JSON value
 * @param pointer where that value stands in the record
 */
export function findUnstorable(text: string, pointer: string): Unstorable | undefined {
  const walk = new JsonWalk(text, 0)
  walk.run(text.length)
  return walk.unstorable && { ...walk.unstorable, pointer: pointer + walk.unstorable.pointer }
}
