import t from 'tap'
import { listKeys } from '../../src/access/manage-keys.ts'
import { withConnection } from '../../src/commands/database.ts'
import { migrate } from '../../src/postgres/migrate.ts'
import { createDatabase, createEmptyDatabase } from '../helpers/postgres.ts'

t.test('a command that PostgreSQL refuses says what to do', async (t) => {
  const empty = await createEmptyDatabase(t)
  const migrated = await createDatabase(t)
  const readOnly = '?options=-c%20default_transaction_read_only%3Don'
  const maintenance = migrated.maintenanceUrl

  await t.rejects(withConnection(empty.ownerUrl, listKeys), {
    message: /^relation "sluice\.keys" does not exist\. Run "sluice migrate" as the owner of the database first$/,
  })
  await t.rejects(withConnection(maintenance, listKeys), {
    message: /^permission denied .*\. DATABASE_URL must log in as a role/,
  })
  await t.rejects(withConnection(empty.ownerUrl + readOnly, migrate), {
    message: /read-only transaction\. DATABASE_URL must lead to the primary, with default_transaction_read_only off$/,
  })
  await t.rejects(
    withConnection(migrated.ownerUrl, () => Promise.reject(new Error('another'))),
    { message: 'another' },
  )
})
