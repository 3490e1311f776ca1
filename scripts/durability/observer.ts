import type { Stored } from './stored.ts'

/** A reader that follows the records of a run from the first one on. */
export interface Observer {
  /** For complaints. */
  name: string
  /** The records that it saw, in this order. */
  shown: Stored[]
  /** Responses that it should not have got. */
  wrong: string[]
}
