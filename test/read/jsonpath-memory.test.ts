import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { sql } from 'kysely'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'

const skip = existsSync('/proc/self/status') ? false : 'only Linux tells how much memory a process has taken'

t.test('the worst expressions take a small multiple of the memory of the simplest filter', { skip }, async (t) => {
  const { post, get, database } = await createApp(t, { READ_CONNECTIONS: '1' })
  const db = connect(database.superUrl)
  t.teardown(() => db.destroy())
  const read = (filter: string, value: string) => get(`/v1/records?limit=1&${filter}=${encodeURIComponent(value)}`)

  await post(`{"source":"ones","type":"t","data":[${Array(520_000).fill('1').join()}]}`)
  t.equal((await read('data', '{"a":7}')).status, 200)
  const baseline = await peak()
  for (const path of [
    '$[*] == 2 || $[*] == 3 || $[*] == 4 || $[*] == 5',
    '$[*][0][0][0] == 7',
    '$[*][last][last][last] == 7',
    '$[*][0][0].size() == 7',
    '$.**.size() == 7',
  ]) {
    t.equal((await read('jsonpath', path)).status, 200)
    t.comment(`${path}: ${((await peak()) / baseline).toFixed(1)} times`)
  }
  t.ok((await peak()) < 6 * baseline)

  /** The most memory that a connection for lists has taken so far, in kilobytes. */
  async function peak(): Promise<number> {
    const { rows } = await sql<{ pid: number }>`
      SELECT pid FROM pg_stat_activity WHERE application_name = 'sluice-list' AND datname = ${database.name}
    `.execute(db)
    const statuses = await Promise.all(rows.map(({ pid }) => readFile(`/proc/${pid}/status`, 'utf8')))
    return Math.max(...statuses.map((status) => Number(/VmHWM:\s+(\d+)/.exec(status)?.[1])))
  }
})
