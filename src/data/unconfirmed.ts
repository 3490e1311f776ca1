import type pg from 'pg'

/**
 * The commit is on the primary's disk, but no synchronous standby has confirmed it. PostgreSQL reports success all the same,
 * with a warning, when somebody cancels the wait (pg_cancel_backend): a failover could lose what was committed
 * (PostgreSQL manual, 26.2.8.3 Planning for High Availability).
 */
export class UnconfirmedError extends Error {
  override name = 'UnconfirmedError'

  constructor() {
    super('The change is made here, but no standby has confirmed it, and a failover may undo it: run it again')
  }
}

/** Its text is translated. The function that reports it is not: src/backend/replication/syncrep.c. */
const isUnconfirmed = ({ code, routine }: { code?: string; routine?: string }) =>
  code === '01000' && (routine === undefined || routine.startsWith('SyncRep'))

/**
 * Runs a statement that may commit.
 * @throws UnconfirmedError when it was committed without the confirmation that it waited for
 */
export async function confirmed<T>(client: pg.Client, run: () => Promise<T>): Promise<T> {
  let isConfirmed = true
  const onNotice = (notice: { code?: string; routine?: string }) => {
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
