import { JsonWalk } from './json-walk.ts'
import type { Unstorable } from './unstorable.ts'

/**
 * Finds the first part of a payload that PostgreSQL's jsonb cannot hold: U+0000 or a lone surrogate in a string or a name, or a
 * number out of range for numeric. Every query on the data would fail there. Call it for suspicious text only.
 * @param text    one JSON value
 * @param pointer JSON Pointer to that value in the record
 */
export function findUnstorable(text: string, pointer: string): Unstorable | undefined {
  const walk = new JsonWalk(text, 0)
  walk.run(text.length)
  return walk.unstorable && { ...walk.unstorable, pointer: pointer + walk.unstorable.pointer }
}
