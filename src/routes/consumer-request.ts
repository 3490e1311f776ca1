import { type ConsumerRequest, ConsumerRequestSchema } from '../schemas/consumers.ts'
import { readObject } from './read-object.ts'

const EXPECTED = [
  [/^$/, 'an object such as {"offset":"-1"}'],
  [/^\/offset$/, 'a text: an offset of the feed, "-1" for the start, or "now"'],
] as const

/** Other names of an offset, in the feed and in other APIs. */
const ALIASES = { cursor: 'offset', position: 'offset', next: 'offset', streamnextoffset: 'offset', after: 'offset' }

/** Reads the body of PUT /v1/consumers/{name}. @throws Problem invalid_json, too_deep, invalid_body */
export const readConsumerRequest = (text: string): ConsumerRequest =>
  readObject(text, ConsumerRequestSchema, { expected: EXPECTED, aliases: ALIASES }) as ConsumerRequest
