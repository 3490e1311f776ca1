import { readFile } from 'node:fs/promises'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { roleNames } from '../../src/postgres/roles.ts'
import { TUPLE_COLUMNS } from '../../src/postgres/tuple.ts'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { isProblem } from '../helpers/problem.ts'

const read = (path: string) => readFile(new URL(`../../${path}`, import.meta.url), 'utf8')
const manual = await read('scripts/without-kubernetes.md')
const section = manual.slice(manual.indexOf('## Roles'), manual.indexOf('## Services'))

/** `INSERT keys`, `UPDATE(revoked_at) keys`, … for each role. */
type Privileges = Record<string, string[]>

t.test("the manual's table has exactly the privileges that each role has", async (t) => {
  const schema = await read('db/schema.sql')
  const granted: Privileges = {}
  for (const [, privileges = '', object = '', role = ''] of schema.matchAll(/^GRANT (.*) ON (.*) TO (\w+);$/gm)) {
    if (object.startsWith('SCHEMA')) continue
    const [, name, column] = /sluice\.(\w+)(?: \("?(\w+)"?\))?/.exec(object) ?? []
    for (const privilege of privileges.split(', '))
      granted[role] = [...(granted[role] ?? []), `${privilege}${column ? `(${column})` : ''} ${name}`]
  }
  const columns = (granted.sluice_api ?? []).flatMap((text) => /^INSERT\((\w+)\) records$/.exec(text)?.[1] ?? [])
  t.same(columns.sort(), TUPLE_COLUMNS.replaceAll('"', '').split(', ').sort(), 'the columns that the API writes')
  granted.sluice_api = ['INSERT records', ...(granted.sluice_api ?? []).filter((text) => !text.startsWith('INSERT('))]
  const tables = [...schema.matchAll(/^CREATE TABLE sluice\.(\w+)/gm)].map(([, name]) => name as string)
  t.ok(tables.length >= 5)

  const documented: Privileges = {}
  for (const [, role = '', cell = ''] of section.matchAll(/^\| `(sluice_\w+)` \| .*? \| (.*?) \|/gm)) {
    documented[role] = [
      ...cell.matchAll(/((?:`[A-Z][^`]*`(?:, )?)+) on (every table|(?:`[a-z]\w*`(?:, )?)+)/g),
    ].flatMap(([, privileges = '', objects = '']) =>
      namesIn(privileges).flatMap((privilege) =>
        (objects === 'every table' ? tables : namesIn(objects)).map((name) => `${privilege.replace(' ', '')} ${name}`),
      ),
    )
  }
  t.same(Object.keys(documented).sort(), [...roleNames].sort(), 'every role has a row')
  for (const role of roleNames.filter((name) => name !== 'sluice_owner'))
    t.same(documented[role]?.sort(), granted[role]?.sort(), role)
})

const namesIn = (text: string) => [...text.matchAll(/`([^`]+)`/g)].map(([, name]) => name as string)

t.test('the API can set neither the position nor the time of receipt of a record', async (t) => {
  const { database } = await createApp(t)
  const api = connect(database.apiUrl)
  t.teardown(() => api.destroy())
  const insert = (column: string, value: string) =>
    sql.raw(
      `INSERT INTO sluice.records (epoch, n, source, id, type, ${column}) VALUES (1, 1, 's', '${column}', 't', ${value})`,
    )
  await t.resolves(insert('subject', "'x'").execute(api))
  for (const [column, value] of [
    ['xid', "'1'"],
    ['received_at', "'2020-01-01'"],
  ] as const)
    await t.rejects(insert(column, value).execute(api), { code: '42501' }, column)
})

t.test('an operator can take the management of keys from the API, and give it back', async (t) => {
  const { app, key, post, database, makeKey } = await createApp(t)
  const { id } = await makeKey()
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
  const create = () =>
    app.inject({ method: 'POST', url: '/v1/keys', headers, payload: '{"name":"shop","scopes":["ingest"]}' })
  const revoke = () => app.inject({ method: 'DELETE', url: `/v1/keys/${id}`, headers })
  const [statement = ''] = /^REVOKE .* ON sluice\.keys FROM sluice_api;$/m.exec(section) ?? []
  t.ok(statement, 'the manual has the statement')

  await asOwner(t, database.ownerUrl, statement)
  for (const refused of [await create(), await revoke()]) {
    const { statusCode: status, headers } = refused
    isProblem(t, { status, headers, json: refused.json() }, 'forbidden')
    t.match(refused.json().detail, /may not change API keys.*sluice keys/)
  }
  t.equal((await app.inject({ url: '/v1/keys', headers })).statusCode, 200, 'the list can still be read')
  t.equal((await post({ source: 's', type: 't' })).status, 201, 'and keys still work')

  await asOwner(t, database.ownerUrl, await read('db/privileges.sql'))
  t.equal((await create()).statusCode, 201, 'every migration grants it again, as the manual says')
  t.equal((await revoke()).statusCode, 204)
})

t.test('the API cannot change anything else about a key', async (t) => {
  const { database } = await createApp(t)
  const api = connect(database.apiUrl)
  t.teardown(() => api.destroy())
  for (const column of ["hash = 'x'", "scopes = '{}'", 'expires_at = NULL', "source_prefixes = '{}'", "name = 'x'"])
    await t.rejects(sql.raw(`UPDATE sluice.keys SET ${column}`).execute(api), { code: '42501' }, column)
  await t.rejects(sql`DELETE FROM sluice.keys`.execute(api), { code: '42501' })
})

t.test('every role can delay lists in ascending order, with a transaction that stays open', async (t) => {
  const { get, post, database } = await createApp(t)
  const root = connect(database.superUrl)
  t.teardown(() => root.destroy())
  const ids = async () => (await get('/v1/records?order=asc')).json.records.map(({ id }: { id: string }) => id)
  await root.transaction().execute(async (trx) => {
    await sql`SET LOCAL ROLE sluice_reader`.execute(trx)
    await sql`SELECT pg_current_xact_id()`.execute(trx)
    await post({ source: 's', type: 't', id: '1' })
    t.same(await ids(), [])
  })
  t.same(await ids(), ['1'])
})

async function asOwner(t: Test, url: string, statement: string): Promise<void> {
  const owner = connect(url)
  await t.resolves(sql.raw(statement).execute(owner)).finally(() => owner.destroy())
}
