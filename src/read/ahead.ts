import { isAhead } from '../data/epochs.ts'
import type { Position } from '../lib/cursor.ts'
import { Problem } from '../lib/problems.ts'
import { inTurn, type Reader } from './reader.ts'

/**
 * For a list upwards that found nothing after a cursor. If the database was set back, by a copy of its files or a snapshot,
 * new records may sort before the cursor, and a consumer that gets an empty page would miss them.
 * @param reader that found nothing. Its database may be a standby that lags behind, so the primary decides
 * @throws Problem cursor_ahead
 */
export async function refuseAhead(after: Position | undefined, reader: Reader): Promise<void> {
  if (after === undefined) return
  if (!(await inTurn(reader, () => isAhead(reader.db, after, false)))) return
  const { db, turnstile } = reader.primary
  if (!(await inTurn({ ...reader, turnstile }, () => isAhead(db, after, true)))) return
  throw new Problem(
    'cursor_ahead',
    'The database was set back to an earlier state: it has not given out this cursor, and new records may sort before it. ' +
      'Ask the operator to run "sluice epoch begin --after" with this cursor; records stored after that sort after it. ' +
      'To read what was stored before, list with order=asc and receivedFrom, without a cursor.',
  )
}
