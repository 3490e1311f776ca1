import fc from 'fast-check'
import { sql } from 'kysely'
import t from 'tap'
import { walkAtOnce } from '../../../src/lib/json/parse.ts'
import { connect } from '../../helpers/connect.ts'
import { jsonText } from '../../helpers/json-text.ts'
import { createDatabase } from '../../helpers/postgres.ts'

const db = connect((await createDatabase(t)).superUrl)
t.teardown(() => db.destroy())

/** Whether PostgreSQL accepts the text as jsonb. */
const fitsJsonb = (text: string) =>
  sql`SELECT ${text}::jsonb IS NOT NULL`.execute(db).then(
    () => true,
    (error: { code: string }) => {
      if (!error.code.startsWith('22')) throw error
      return false
    },
  )

t.test('at each limit of numeric, numbers are rejected exactly if PostgreSQL rejects them', async (t) => {
  const digits = (count: number) => '9'.repeat(count)
  const zeros = (count: number) => '0'.repeat(count)
  const around = (limit: number) => [-2, -1, 0, 1, 2].map((step) => limit + step)
  const numbers = [
    ...around(131_071).flatMap((e) => [`1e${e}`, `-9.9e${e}`, `0.1e${e}`, `99e${e}`, `0.001E+${e}`, `1.000e${e}`]),
    ...around(131_072).flatMap((n) => [digits(n), `-${digits(n)}.5`, `${digits(n - 100)}e100`, `1${zeros(n - 1)}`]),
    ...around(16_383).flatMap((n) => [
      `0.${digits(n)}`,
      `0.${zeros(n)}`,
      `1.${zeros(n - 5)}e-5`,
      `1e-${n}`,
      `100e-${n}`,
    ]),
    ...around(16_383).flatMap((n) => [`1.${zeros(n + 10)}e10`, `0e-${n}`, `0.0e-${n}`]),
    ...around(131_071).flatMap((e) => [`0e${e}`, `0.0e${e}`, `-0e${e}`]),
    ...around(1_073_741_823).flatMap((e) => [`0e${e}`, `0e-${e}`, `0.00e${e}`, `1e${e}`, `1e-${e}`]),
    ...around(2_147_483_647).flatMap((e) => [`0e${e}`, `0e-${e}`]),
    `${digits(131_072)}.${digits(16_383)}`,
    `${digits(131_072)}.${digits(16_384)}`,
    `0e${digits(30)}`,
    `0.${zeros(500)}1e600`,
    '1e0000000005',
    '1e-0000000005',
  ]
  const wrong: string[] = []
  for (const number of numbers) {
    const isStorable = walkAtOnce(number).unstorable === undefined
    if (isStorable !== (await fitsJsonb(number))) {
      wrong.push(
        `${number.slice(0, 20)}…${number.slice(-12)} (${number.length}): ${isStorable ? 'accepted' : 'rejected'} here`,
      )
    }
  }
  t.same(wrong, [])
})

t.test('any JSON is rejected exactly if jsonb rejects it', async (t) => {
  await fc.assert(
    fc.asyncProperty(jsonText({ unstorable: true }), async (text) => {
      return (walkAtOnce(text).unstorable === undefined) === (await fitsJsonb(text))
    }),
    { numRuns: 300 },
  )
  t.pass('300 documents')
})
