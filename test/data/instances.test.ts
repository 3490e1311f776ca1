import t from 'tap'
import { identify, selectInstances } from '../../src/data/instances.ts'
import { connect } from '../../src/postgres/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

const database = await createDatabase(t)
const open = (name: string, url = database.apiUrl) => {
  const db = connect({ url, name, connections: 1, statementTimeoutMs: 0, onError: () => {} })
  t.teardown(() => db.destroy())
  return db
}

t.test('instances are found by their connections, with versions and names', async (t) => {
  const before = Date.now()
  const db = open(identify('1.2.3', 'sluice-7d4b9c-x2x4z', 3000).applicationName)
  const other = identify('1.2.4-rc.1', `host-${'x'.repeat(100)}`, 65_535)
  const [first] = await selectInstances(db)
  t.ok(Math.abs((first?.connectedAt ?? 0) - before) < 60_000)

  await selectInstances(open(other.applicationName))
  await selectInstances(open('sluice-read'))
  await selectInstances(open('sluice-keys'))
  const found = await selectInstances(db)
  t.same(
    found.map(({ version, name }) => [version, name]),
    [
      ['older', 'unknown'],
      ['1.2.3', 'sluice-7d4b9c-x2x4z:3000'],
      ['1.2.4-rc.1', other.name],
    ],
  )
  t.match(other.name, /^host-x{20,}:65535$/, 'a long name is cut off')
})

t.test('an application_name in the URL hides an instance', async (t) => {
  const url = new URL(database.apiUrl)
  url.searchParams.set('application_name', 'mine')
  await selectInstances(open(identify('7.7.7', 'hidden', 3000).applicationName, url.href))
  t.notOk((await selectInstances(open('sluice-read'))).some(({ version }) => version === '7.7.7'))
})

t.test('connections of other roles are none, whatever they call themselves', async (t) => {
  await selectInstances(open(identify('9.9.9', 'other', 3000).applicationName, database.maintenanceUrl))
  t.notOk((await selectInstances(open('sluice-read'))).some(({ version }) => version === '9.9.9'))
})
