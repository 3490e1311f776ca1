import { offsetStateOf } from '../data/epochs.ts'
import type { Position } from '../lib/offset.ts'
import { Problem } from '../problems.ts'
import { inTurn, type Reader } from './reader.ts'

const READ_BETWEEN =
  'list with order=asc and receivedFrom (a time before the database was set back), without a cursor, and continue from the cursors of that list.'

/**
 * Checks the cursor of a list in feed order. If the database was set back, by a copy of its files or a snapshot, records may be
 * stored that sort before the consumer's cursor. The consumer would miss them.
 * @param after the cursor
 * @param first the epoch of the first record after the cursor; undefined if no record follows. If it is the epoch of the cursor,
 *   the cursor is valid
 * @param reader its database may be a standby that lags behind, so the primary decides whether the cursor is ahead
 * @throws Problem offset_ahead
 */
export async function refuseInvalidOffset(
  after: Position | undefined,
  first: number | undefined,
  reader: Reader,
): Promise<void> {
  if (after === undefined || first === after.epoch) return
  let standing = await inTurn(reader, () => offsetStateOf(reader.db, after, false))
  if (standing === 'ahead') {
    const { db, semaphore } = reader.primary
    standing = await inTurn({ ...reader, semaphore }, () => offsetStateOf(db, after, true))
  }
  if (standing === 'ahead')
    throw new Problem(
      'offset_ahead',
      'The database was set back to an earlier state: this cursor comes from the state that was lost, and new records may sort before it. ' +
        `Ask the operator to run "sluice epoch begin --after" with this cursor. Then ${READ_BETWEEN}`,
    )
  if (standing === 'lost')
    throw new Problem(
      'offset_ahead',
      'The database was set back to an earlier state, and records were stored since then that sort before this cursor. ' +
        `To read them, ${READ_BETWEEN}`,
    )
}
