import { v7 as uuidv7 } from 'uuid'
import type { Defaults } from './envelope.ts'

/** Creates ids for records without one: from the Idempotency-Key, so that the request can be retried, otherwise a UUIDv7. */
export function makeDefaults(
  idempotencyKey: string | undefined,
  traceparent: string | undefined,
): (single: boolean) => Defaults {
  return (single) => ({
    traceparent,
    makeId: (index) => {
      if (idempotencyKey === undefined) return uuidv7()
      return single ? idempotencyKey : `${idempotencyKey}.${index}`
    },
  })
}
