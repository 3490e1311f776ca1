import { type RawBuilder, sql } from 'kysely'

/** A position in the feed. The 64-bit numbers are decimal text. */
export interface TextPosition {
  epoch: number
  xid: string
  n: string
}

/** The records that a policy applies to. Without any member: all records. */
export interface Selection {
  type?: string | undefined
  typePrefix?: string | undefined
  source?: string | undefined
  sourcePrefix?: string | undefined
  /** Extension attributes and their values. */
  extensions?: Readonly<Record<string, string | number | boolean>> | undefined
}

/** What a policy deletes. If both limits are set, a record is deleted if either applies. */
export interface Deletion {
  selection: Selection
  /** Records received before this time, in PostgreSQL's text form. */
  before: string | undefined
  /** Records up to and including this position. */
  upTo: TextPosition | undefined
  /** Only records that every consumer has read. */
  keepForConsumers: boolean
}

export const selects = ({ type, typePrefix, source, sourcePrefix, extensions = {} }: Selection): RawBuilder<boolean> =>
  all([
    type === undefined ? undefined : sql`type = ${type}`,
    // ^@ means "starts with". Unlike in LIKE, no character of the prefix has a special meaning.
    typePrefix === undefined ? undefined : sql`type ^@ ${typePrefix}`,
    source === undefined ? undefined : sql`source = ${source}`,
    sourcePrefix === undefined ? undefined : sql`source ^@ ${sourcePrefix}`,
    // As text: the same value arrives as a number in JSON and as text in a header (CloudEvents 1.0.2, section 3.1).
    ...Object.entries(extensions).map(([name, value]) => sql`extensions ->> ${name}::text = ${String(value)}`),
  ])

/** Whether the limits of a policy apply to a record, also if it stays because a consumer has not read it. */
export const isOverLimit = ({
  selection,
  before,
  upTo,
}: Deletion): RawBuilder<boolean> => sql`(${selects(selection)} AND (
  ${before === undefined ? sql`false` : sql`received_at < ${before}::timestamptz`}
  OR ${upTo === undefined ? sql`false` : sql`(epoch, xid, n) <= ${positionRow(upTo)}`}
))`

/** A row value to compare with (epoch, xid, n). */
export const positionRow = ({ epoch, xid, n }: TextPosition) => sql`(${epoch}::integer, ${xid}::xid8, ${n}::bigint)`

/** A position as a query returns it: epoch, xid and n. */
export type PositionColumns = [string, string, string]

export const toPosition = (numbers: PositionColumns | null): TextPosition | undefined =>
  numbers === null ? undefined : { epoch: Number(numbers[0]), xid: numbers[1], n: numbers[2] }

/**
 * Roughly the bytes that a record takes on disk, with indexes: its values as they are stored, which may be compressed; source
 * and id again, for the index on the identity; and 160 bytes for the columns of fixed size, the headers of the row and of its
 * two index entries, and the free space in pages. It reads no large payload: the size of one is stored in the row, beside the
 * pointer to it.
 */
export const BYTES = sql`(160 + 2 * (octet_length(source) + octet_length(id)) + octet_length(type)
  + coalesce(pg_column_size(subject), 0) + coalesce(pg_column_size(dataschema), 0) + coalesce(pg_column_size(datacontenttype), 0)
  + coalesce(pg_column_size(extensions), 0) + coalesce(pg_column_size(data), 0) + coalesce(pg_column_size(data_bytes), 0))`

function all(conditions: (RawBuilder<unknown> | undefined)[]): RawBuilder<boolean> {
  const present = conditions.filter((condition) => condition !== undefined)
  return present.length === 0 ? sql`true` : sql`(${sql.join(present, sql` AND `)})`
}
