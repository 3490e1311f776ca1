import { isAhead } from '../data/epochs.ts'
import type { Database } from '../data/schema.ts'
import type { Position } from '../lib/cursor.ts'
import { Problem } from '../lib/problems.ts'

/**
 * For a list upwards that found nothing after a cursor. Where the database was set back behind it, by a copy of its files or a
 * snapshot that was put back, new records may come before it, and a consumer that is told "nothing yet" would miss them.
 * @param db that was read; a standby which merely lags behind is no proof, so the primary is asked as well
 * @throws Problem cursor_ahead
 */
export async function refuseAhead(after: Position | undefined, db: Database, primary: Database): Promise<void> {
  if (after === undefined) return
  if (db !== primary && !(await isAhead(db, after, false))) return
  if (!(await isAhead(primary, after, true))) return
  throw new Problem(
    'cursor_ahead',
    'The database was set back to an earlier state, and knows nothing of this cursor: what it has stored since may come before it. ' +
      'Its operator runs "sluice epoch begin --after" with this cursor, from when on new records come after it. ' +
      'What was stored between the two is found with order=asc and receivedFrom, without a cursor.',
  )
}
