import { type RawBuilder, sql } from 'kysely'

/** A place in the feed; numbers of 64 bits as decimals. */
export interface Place {
  epoch: number
  xid: string
  n: string
}

/** The records that a policy is about; all of them when it says nothing. */
export interface Selection {
  type?: string | undefined
  typePrefix?: string | undefined
  source?: string | undefined
  sourcePrefix?: string | undefined
}

/** What a policy removes. It may say both: what either says is removed. */
export interface Removal {
  selection: Selection
  /** Received before this moment; PostgreSQL's text. */
  before: string | undefined
  /** Up to this place of the feed, and this one as well. */
  upTo: Place | undefined
}

export const selects = ({ type, typePrefix, source, sourcePrefix }: Selection): RawBuilder<boolean> =>
  all([
    type === undefined ? undefined : sql`type = ${type}`,
    // ^@ is "starts with": unlike in LIKE, nothing in the prefix has a meaning of its own.
    typePrefix === undefined ? undefined : sql`type ^@ ${typePrefix}`,
    source === undefined ? undefined : sql`source = ${source}`,
    sourcePrefix === undefined ? undefined : sql`source ^@ ${sourcePrefix}`,
  ])

export const isRemovable = ({
  selection,
  before,
  upTo,
}: Removal): RawBuilder<boolean> => sql`(${selects(selection)} AND (
  ${before === undefined ? sql`false` : sql`received_at < ${before}::timestamptz`}
  OR ${upTo === undefined ? sql`false` : sql`(epoch, xid, n) <= ${place(upTo)}`}
))`

/** As a row to compare with. */
export const place = ({ epoch, xid, n }: Place) => sql`(${epoch}::integer, ${xid}::xid8, ${n}::bigint)`

/** From an array of its three numbers. */
export const toPlace = (numbers: string[] | null): Place | undefined =>
  numbers === null ? undefined : { epoch: Number(numbers[0]), xid: numbers[1] as string, n: numbers[2] as string }

/**
 * About what a record takes on disk, indexes included: its values as they are stored, compressed where PostgreSQL compresses;
 * source and id once more, for the index of the identity; and 160 bytes for the columns of fixed size, the headers of the row
 * and of its two index entries, and what pages keep free. Reads no payload: that of a large record lies elsewhere, and its
 * size beside its address.
 */
export const BYTES = sql`(160 + 2 * (octet_length(source) + octet_length(id)) + octet_length(type)
  + coalesce(pg_column_size(subject), 0) + coalesce(pg_column_size(dataschema), 0) + coalesce(pg_column_size(datacontenttype), 0)
  + coalesce(pg_column_size(extensions), 0) + coalesce(pg_column_size(data), 0) + coalesce(pg_column_size(data_bytes), 0))`

function all(conditions: (RawBuilder<unknown> | undefined)[]): RawBuilder<boolean> {
  const said = conditions.filter((condition) => condition !== undefined)
  return said.length === 0 ? sql`true` : sql`(${sql.join(said, sql` AND `)})`
}
