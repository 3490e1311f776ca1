import { readFile } from 'node:fs/promises'
import t from 'tap'
import { dumpSchema } from '../../db/dump.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

t.test('db/schema.sql shows what the migrations and privileges add up to', async (t) => {
  const { ownerUrl } = await createDatabase(t)
  const db = connect(ownerUrl)
  t.teardown(() => db.destroy())
  const kept = await readFile(new URL('../../db/schema.sql', import.meta.url), 'utf8')
  t.equal(kept, await dumpSchema(db), 'db/schema.sql is out of date; renew it with: node db/dump.ts > db/schema.sql')
})
