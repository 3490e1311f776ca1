import { type RawBuilder, sql } from 'kysely'
import { DOT_SEGMENT, readPrefix } from '../lib/source-prefix.ts'

/**
 * The condition that a record's source is allowed by these prefixes: `admits` of lib/source-prefix.ts in SQL.
 * `^@` means "starts with". On a column with collation "C" it can use the index on the identity.
 * @param prefixes at least one
 */
export function isAllowed(prefixes: readonly string[]): RawBuilder<boolean> {
  const conditions = prefixes.flatMap((prefix) => {
    const { equal, starts } = readPrefix(prefix)
    return [...(equal === undefined ? [] : [sql`source = ${equal}`]), ...starts.map((start) => sql`source ^@ ${start}`)]
  })
  return sql`((${sql.join(conditions, sql` OR `)}) AND source !~* ${DOT_SEGMENT})`
}
