import fc from 'fast-check'
import { type Kysely, sql } from 'kysely'
import t from 'tap'
import { Column } from '../../src/postgres/column.ts'
import { connect as connectToWrite } from '../../src/postgres/connect.ts'
import { pack } from '../../src/postgres/packed-rows.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { makeRow } from '../helpers/rows.ts'

const { apiUrl } = await createDatabase(t)
const plain = connect(apiUrl)
const writing = connectToWrite({
  url: apiUrl,
  name: 'test',
  connections: 1,
  statementTimeoutMs: 0,
  prepare: true,
  plan: 'byIdentity',
  onError: () => {},
}) as unknown as Kysely<unknown>
t.teardown(() => Promise.all([plain.destroy(), writing.destroy()]))

type Values = (string | null)[]

/** Sends an encoded array and reads it back, on a connection that writes it into its message (bind.ts) and on a plain one. */
async function readBack(values: Values): Promise<Values | null> {
  const [one, other] = await Promise.all([writing, plain].map((db) => select(db, values)))
  if (JSON.stringify(one) !== JSON.stringify(other)) throw new Error('the two connections differ')
  return one as Values | null
}

async function select(db: Kysely<unknown>, values: Values): Promise<Values | null> {
  const column = new Column(pack(values.map((subject) => makeRow({ subject }))), 'subject', 'text')
  // Next to parameters of other types.
  const { rows } = await sql<{ values: Values | null; rest: string }>`
    SELECT ${column}::text[] AS values,
           concat(${'é'}::text, ${7}::integer, encode(${Buffer.from('x')}::bytea, 'hex'), ${null}::text) AS rest
  `.execute(db)
  if (rows[0]?.rest !== 'é778') throw new Error(`the other parameters arrived as ${rows[0]?.rest}`)
  return rows[0].values
}

t.test('texts arrive unchanged: empty, with quotes, line breaks, braces, emoji or the word NULL', async (t) => {
  const values = ['', '"', "'", '\\', '{a,b}', ' ', '\n\r\t', 'NULL', 'é', '漢字', '👩‍👩‍👧', '\u{10ffff}', '\u0001']
  t.same(await readBack(values), values)
})

t.test('nulls stay null at every index, also next to empty texts', async (t) => {
  for (const values of [
    [null, '', 'a'],
    ['', null],
    ['a', null, null, 'b'],
  ]) {
    t.same(await readBack(values), values)
  }
})

t.test('a column without values is sent as null, not as an array', async (t) => {
  t.equal(await readBack([null, null]), null)
  t.equal(await readBack([]), null)
})

t.test('a text larger than a page and an array of 10,000 values arrive complete', async (t) => {
  const large = '🦩'.repeat(100_000)
  t.same(await readBack([large, null, 'x']), [large, null, 'x'])
  const many = Array.from({ length: 10_000 }, (_, index) => (index % 7 === 0 ? null : `value ${index}`))
  t.same(await readBack(many), many)
})

t.test('messages of different sizes, which reuse the same memory, arrive unchanged', async (t) => {
  const valuesOf = (letter: string, mebibytes: number) => [letter.repeat(mebibytes * 1024 * 1024), letter]
  for (const values of [['x'], valuesOf('a', 9), ['y'], valuesOf('b', 1), valuesOf('c', 2), ['z', null]]) {
    t.ok(
      (await readBack(values))?.every((value, index) => value === values[index]),
      `${values[0]?.length}`,
    )
  }
})

t.test('every text that PostgreSQL can store is read back equal', async () => {
  const text = fc.string({ unit: 'binary' }).filter((value) => !value.includes('\0'))
  await fc.assert(
    fc.asyncProperty(fc.array(fc.option(text), { minLength: 1, maxLength: 20 }), async (values) => {
      const expected = values.every((value) => value === null) ? null : values
      const actual = await readBack(values)
      return JSON.stringify(actual) === JSON.stringify(expected)
    }),
    { numRuns: 200 },
  )
})
