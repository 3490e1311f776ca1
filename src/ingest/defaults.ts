import { v7 as uuidv7 } from 'uuid'
import type { Defaults } from './envelope.ts'

/** Ids for records that have none: from the Idempotency-Key, so that the request can be sent again, else new ones. */
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
