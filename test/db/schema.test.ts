import { readFile } from 'node:fs/promises'
import t from 'tap'
import { dumpSchema } from '../../scripts/dump-schema.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

t.test('db/schema.sql is the dump of a migrated database with its privileges', async (t) => {
  const { ownerUrl } = await createDatabase(t)
  const db = connect(ownerUrl)
  t.teardown(() => db.destroy())
  const kept = await readFile(new URL('../../db/schema.sql', import.meta.url), 'utf8')
  t.equal(
    kept,
    await dumpSchema(db),
    'db/schema.sql is out of date; update it with: npx node scripts/dump-schema.ts > db/schema.sql',
  )
})
