import type pg from 'pg'
import { processIdOf } from './pg-internals.ts'

export interface Listening {
  channel: string
  /** Called when a connection listens from now on. */
  onListen: () => void
  /** Called when another connection sends a notification on the channel. */
  onNotification: () => void
}

/**
 * Listens on this connection (PostgreSQL manual, LISTEN). Behind a pooler, a notification of this connection looks like one of
 * another.
 */
export async function listen(client: pg.ClientBase, { channel, onListen, onNotification }: Listening): Promise<void> {
  client.on('notification', ({ processId }) => {
    if (processId !== processIdOf(client)) onNotification()
  })
  await client.query(`LISTEN ${channel}`)
  onListen()
}
