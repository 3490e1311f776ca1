import type { Position } from '../lib/offset.ts'

/**
 * The latest transaction that this process knows of: in this epoch, PostgreSQL has assigned transaction ids up to this one. A
 * server that is behind it was set back to an earlier state.
 */
export type Seen = Pick<Position, 'epoch' | 'xid'>

export const NOTHING_SEEN: Seen = { epoch: 0, xid: '0' }

export const isAfter = (one: Seen, other: Seen): boolean =>
  one.epoch > other.epoch || (one.epoch === other.epoch && one.xid !== other.xid && BigInt(one.xid) > BigInt(other.xid))
