import type pg from 'pg'

/** A notice of the server, as the driver reports it. */
interface Notice {
  code?: string | undefined
  routine?: string | undefined
}

/**
 * The commit is on the primary's disk, but no synchronous standby has confirmed it, so a failover could lose it. If someone
 * cancels the wait (pg_cancel_backend), PostgreSQL reports success, with a warning (PostgreSQL manual, 26.2.8.3 Planning for
 * High Availability).
 */
export class UnconfirmedError extends Error {
  override name = 'UnconfirmedError'

  constructor() {
    super('The change was committed, but no standby has confirmed it, so a failover may undo it. Run the command again')
  }
}

/** The text of the warning is translated, but the name of the reporting function is not: src/backend/replication/syncrep.c. */
const isUnconfirmed = ({ code, routine }: Notice) =>
  code === '01000' && (routine === undefined || routine.startsWith('SyncRep'))

/**
 * Runs a statement that may commit.
 * @throws UnconfirmedError if it committed without the confirmation that it waited for
 */
export async function confirmed<T>(client: pg.Client, run: () => Promise<T>): Promise<T> {
  let isConfirmed = true
  const onNotice = (notice: Notice) => {
    if (isUnconfirmed(notice)) isConfirmed = false
  }
  client.on('notice', onNotice)
  try {
    const result = await run()
    if (!isConfirmed) throw new UnconfirmedError()
    return result
  } finally {
    client.off('notice', onNotice)
  }
}
