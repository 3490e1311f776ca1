import fc from 'fast-check'
import { sql } from 'kysely'
import t from 'tap'
import { encodeTextArray } from '../../src/data/text-array.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

const { apiUrl } = await createDatabase(t)
const db = connect(apiUrl)
t.teardown(() => db.destroy())

/** What PostgreSQL makes of an encoded array. */
async function readBack(values: (string | null)[]): Promise<(string | null)[] | null> {
  const { rows } = await sql<{ values: (string | null)[] | null }>`
    SELECT ${encodeTextArray(values)}::text[] AS values`.execute(db)
  return (rows[0] as { values: (string | null)[] | null }).values
}

t.test('texts arrive as they are: empty, quoted, of many lines, with braces, emoji and the word NULL', async (t) => {
  const values = ['', '"', "'", '\\', '{a,b}', ' ', '\n\r\t', 'NULL', 'é', '漢字', '👩‍👩‍👧', '\u{10ffff}', '\u0001']
  t.same(await readBack(values), values)
})

t.test('nulls stay null, beside empty texts, wherever they stand', async (t) => {
  for (const values of [
    [null, '', 'a'],
    ['', null],
    ['a', null, null, 'b'],
  ]) {
    t.same(await readBack(values), values)
  }
})

t.test('a column without any value costs no array: it is null as a whole', async (t) => {
  t.equal(encodeTextArray([null, null]), null)
  t.equal(encodeTextArray([]), null)
})

t.test('a text larger than a page and an array of 10,000 values arrive whole', async (t) => {
  const large = '🦩'.repeat(100_000)
  t.same(await readBack([large, null, 'x']), [large, null, 'x'])
  const many = Array.from({ length: 10_000 }, (_, index) => (index % 7 === 0 ? null : `value ${index}`))
  t.same(await readBack(many), many)
})

t.test('whatever PostgreSQL can hold is read back equal', async () => {
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
