import { type RawBuilder, sql } from 'kysely'
import { DOT_SEGMENT, readPrefix } from '../lib/source-prefix.ts'

/**
 * The records whose source a key with these prefixes, of which there is one at least, may use: `admits` of
 * lib/source-prefix.ts in SQL. `^@` is "starts with"; on a column of collation "C" it can use the index of the identity.
 */
export function isAllowed(prefixes: readonly string[]): RawBuilder<boolean> {
  const conditions = prefixes.flatMap((prefix) => {
    const { equal, starts } = readPrefix(prefix)
    return [...(equal === undefined ? [] : [sql`source = ${equal}`]), ...starts.map((start) => sql`source ^@ ${start}`)]
  })
  return sql`((${sql.join(conditions, sql` OR `)}) AND source !~* ${DOT_SEGMENT})`
}
