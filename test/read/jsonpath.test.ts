import fc from 'fast-check'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { MAX_CONDITIONS, MAX_CONDITIONS_BELOW, MAX_JSONPATH, readJsonpath } from '../../src/read/jsonpath.ts'
import { MAX_STEPS } from '../../src/read/jsonpath-steps.ts'
import { MAX_PATTERN, MAX_PATTERN_SIZE } from '../../src/read/like-regex.ts'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { isProblem } from '../helpers/problem.ts'

const { post, get, database } = await createApp(t)
const db = connect(database.superUrl)
t.teardown(() => db.destroy())

const RECORDS = [
  '{"delay":250,"a":"x","b":5,"name":"Anna","legs":[{"to":"FRA","price":9},{"to":"JFK","price":12.50}]}',
  '{"delay":90.5,"a":"x","b":1,"name":"xAvier","legs":[],"deep":{"er":[{"price":7}]}}',
  '{"delay":"300","e-mail":"a@b","name":"Bert","b":null,"flag":true}',
  '{"delay":12345678901234567890.000000000000000001}',
  '[{"delay":101},{"delay":1}]',
  '"text"',
  'null',
]
for (const [id, data] of RECORDS.entries()) await post(`{"source":"j","type":"t","id":"${id}","data":${data}}`)
await post({ source: 'j', type: 't', id: 'bytes', data_base64: 'AAH/' })
await post({ source: 'j', type: 't', id: 'none' })

const at = (jsonpath: string, more = '') =>
  `/v1/records?source=j&order=asc&jsonpath=${encodeURIComponent(jsonpath)}${more}`

/** The ids of the records that a jsonpath selects. */
async function select(jsonpath: string): Promise<string> {
  const { status, text, json } = await get(at(jsonpath, '&count=true'))
  if (status !== 200) throw new Error(text)
  if (json.count !== json.records.length) throw new Error(`count=true: ${json.count}`)
  return json.records.map(({ id }: { id: string }) => id).join('')
}

t.test('a jsonpath selects by a condition, or by a path to something that must exist', async (t) => {
  for (const [path, expected] of [
    ['$.delay > 100', '034'],
    ['100 < $.delay', '034'],
    ['lax $.delay>100', '034'],
    ['$.delay >= 90.5 && $.delay <= 250.0', '014'],
    ['$.a == "x" && !($.b < 3)', '0'],
    ['$.a != "x" || $.b <> 5', '12'],
    ['$.delay == 12345678901234567890.000000000000000001', '3'],
    ['$.delay == 12345678901234567890', ''],
    ['$.delay > -1.5e3 && $.delay < .5e3', '014'],
    ['$.name starts with "A"', '0'],
    ['$.name like_regex "^a" flag "i"', '0'],
    ['$.name like_regex "A.*r$"', '1'],
    ['$.name like_regex "A.*r" flag "q"', ''],
    ['$.legs[*] ? (@.price > 10)', '0'],
    ['exists($.legs[*] ? (@.price > 10 && @.to == "FRA"))', ''],
    ['$.legs ? (@.price > 10).to == "JFK"', '0'],
    ['$.legs[0].to == "FRA" || $.legs[last].to == "none"', '0'],
    ['!exists($.legs)', '23456'],
    ['!($.b >= 0)', '23456'],
    ['$.legs.size() == 0', '1'],
    ['$.legs.*.price == 7', ''],
    ['$.**.price == 7', '1'],
    ['$.** ? (@.price == 7 && @.price < 8)', '1'],
    ['($.delay > 100) is unknown', '2'],
    ['$.delay.number() > 250', '23'],
    ['$.b == null', '2'],
    ['$.flag == true', '2'],
    ['$."e-mail" == "a\\u0040b"', '2'],
    ['$.type() == "object"', '0123'],
    ['$ starts with "te"', '5'],
    ['$.delay', '01234'],
    ['$', '0123456'],
    ['$.nothing', ''],
  ] as const)
    t.equal(await select(path), expected, path)
})

t.test('number() fails on other texts, for the whole comparison or for one item of a filter', async (t) => {
  const data = '{"items":[{"d":"300"},{"d":"n/a"}]}'
  for (const [path, expected] of [
    ['$.items[*].d.number() > 100', null],
    ['exists($.items[*] ? (@.d.number() > 100))', true],
  ]) {
    const { rows } = await sql`SELECT ${data}::jsonb @@ ${path}::jsonpath AS found`.execute(db)
    t.same(rows, [{ found: expected }], String(path))
  }
})

t.test('exports take a jsonpath too', async (t) => {
  const { text } = await get(at('$.delay > 100'), { accept: 'text/csv' })
  t.same(text.match(/^j,\d/gm), ['j,0', 'j,3', 'j,4'])
})

t.test('what is not possible is refused, and the message says where and what to write instead', async (t) => {
  const [many, steps] = ['$.a == 1 || '.repeat(MAX_CONDITIONS), '[*]'.repeat(MAX_STEPS)]
  t.equal(await select(`${many.slice(0, -4)}`), '', 'the largest number of conditions')
  t.equal(await select(`$${steps} == 7`), '', 'the largest number of steps')
  for (const [path, why] of [
    ['strict $.a == 1', /character 1 \("strict .*Leave the word out/],
    // Each of these takes PostgreSQL more than linear time or memory.
    ['$.a[*] == $.b[*]', /character 11 \("\$\.b.*cannot be compared with each other/],
    ['$.items[*] ? (@.a == $.a)', /character 22 .*cannot be compared with each other/],
    ['$.items[*] ? (exists($.items[*] ? (@.a == 1)))', /character 22 .*begins with @/],
    ['$.a ? (@.b ? (@ > 1))', /character 12 .*cannot contain a filter/],
    ['$.**.** == 1', /character 5 .*may occur once/],
    ['$.**[*] == 1', /character 5 .*only names/],
    ['$.** ? (@[0] == 1)', /character 10 .*only names/],
    ['$.**{1 to 3} == 1', /character 5 .*without levels/],
    ['$[*,*,*,*] == 1', /character 4 .*position/],
    ['$[0 to 9] == 1', /character 3 .*position/],
    [`${many}$.a == 1`, /at most 4 conditions/],
    // Like a condition, each of these takes memory for every item.
    ['$[0][0][last][0][0]', /at most 4 conditions, positions and methods/],
    ['$[*] ? (@.a.number() == 1 && @.b.size() == 1 && @.c == 1)', /at most 4 conditions, positions and methods/],
    ['$.** ? (@.number() == 7 || @.number() == 8)', /with \.\*\*, at most 2 conditions/],
    ['$[*].size().size() == 7', /character 12 .*nothing may follow/],
    ['$.a.type()[0] == 7', /character 11 .*nothing may follow/],
    ['$.a.number() ? (@ > 7)', /character 14 .*nothing may follow/],
    [`$.** == 1 || ${'$.a == 1 || '.repeat(MAX_CONDITIONS_BELOW)}false == $.b`, /with \.\*\*, at most 2 conditions/],
    [`$[*]${steps} == 7`, /at most 32 steps/],
    [`$.a == "${'x'.repeat(MAX_JSONPATH)}"`, /character 1025 .*at most 1,024 characters/],
    ['$.a.double() > 1', /character 4 .*\.size\(\), \.type\(\) and \.number\(\)/],
    ['$.a like_regex "(?=.*x)"', /character 16 .*except \(\?:/],
    ['$.a like_regex "(?i)x"', /character 16 /],
    ['$.a like_regex "\\\\c[(a?b?){200}]"', /cannot have \\c/],
    ['$.a like_regex "***=x"', /cannot begin with \*\*\*/],
    ['$.a like_regex "(a)\\\\1"', /back-references/],
    ['$.a like_regex "((a*){25}){6}"', /describes 300 characters/],
    ['$.a like_regex "(^|a*|$){12}"', /describes/],
    [`$.a like_regex "${'x'.repeat(MAX_PATTERN + 1)}"`, /256 characters/],
    // What people write in other languages.
    ['$.a = 1', /character 5 \("= 1"\): write ==/],
    ["$.a == 'x'", /character 8 .*double quotes/],
    ['$.a == x', /character 8 .*write a number, a text in double quotes/],
    ['delay > 3', /character 1 .*write a path, such as \$\.delay/],
    ['$.a and $.b', /write &&/],
    ['$.a == 1 OR $.b == 1', /character 10 .*write \|\|/],
    ['not ($.a == 1)', /write ! for not/],
    ['!$.a == 1', /in parentheses: !\(/],
    ['$.a is null', /write == null/],
    ['$.a like "x%"', /write like_regex/],
    ['$.a + 1 > 2', /character 5 .*arithmetic/],
    ['$.e-mail == "x"', /\$\."e-mail"/],
    ['$limit', /variables do not exist/],
    ['$["a"] == 1', /write a member as \."a"/],
    ['$.a == [1]', /parameter data/],
    // What is cut off, or too much.
    ['', /empty/],
    [' ', /at its end: something is missing/],
    ['$.a == 1 &&', /at its end: something is missing/],
    ['$.a == ', /at its end: write a number/],
    ['$.a == "x', /character 8 .*double quote is missing/],
    ['($.a == 1', /at its end: a \) is missing/],
    ['$.a ? (@.b == 1', /at its end: a \) is missing/],
    ['$.a == 1)', /character 9 /],
    ['1 == 1', /one side of a comparison must be a path/],
    ['$.a && $.b == 1', /character 1 .*a path alone/],
    ['($.a)', /character 2 .*a path alone/],
    ['@.a == 1', /only possible in a filter/],
    ['$.a like_regex "a" flag "x"', /character 20 .*the flags are/],
    ['$.a == "\\ud800"', /lone surrogate/],
    ['$.a == "\\u0000"', /U\+0000/],
    ['$.a == "\u0000"', /JSON string|U\+0000/],
    // Only PostgreSQL knows.
    ['$.a like_regex "("', /invalid regular expression: parentheses/],
    ['$.a == 1e999999', /overflow/],
  ] as [string, RegExp][])
    for (const accept of ['application/json', 'text/csv']) {
      const response = await get(at(path), { accept })
      isProblem(t, response, 'invalid_query', { name: path.slice(0, 50), errors: [{ pointer: 'jsonpath' }] })
      t.match(response.json.detail, why, path.slice(0, 50))
    }
})

t.test('a pattern may repeat, look at positions, and contain what looks like a refused part', async (t) => {
  for (const pattern of [
    '^(\\d{1,3}\\.){3}\\d{1,3}$',
    '^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$',
    '\\yfoo\\y',
    '[^]x[:alpha:]{3}\\]+',
    '\\(?=1{2,}\\\\1',
    `[(){5}${'x'.repeat(MAX_PATTERN_SIZE - 6)}`,
    '['.padEnd(MAX_PATTERN, '\\'),
  ]) {
    const read = () => readJsonpath(`$.a like_regex ${JSON.stringify(pattern)}`)
    t.doesNotThrow(read, pattern)
  }
  t.end()
})

// — agreement with PostgreSQL —

const SPACES = fc.constantFrom('', '', ' ', '\t\n')
const between = (...parts: fc.Arbitrary<string>[]) =>
  fc.tuple(SPACES, ...parts).map(([space, ...texts]) => texts.join(space))
const words = (...texts: string[]) => fc.constantFrom(...texts)
const textLiteral = fc
  .string({ unit: 'grapheme', maxLength: 4 })
  .map((text) => JSON.stringify(text.replaceAll('\0', '')))
const literal = fc.oneof(
  words('0', '-1', '12.50', '.5', '1e5', '+2E-3', 'true', 'false', 'null', '12345678901234567890'),
  textLiteral,
)
const name = fc.oneof(words('a', 'Name_1', 'exists', 'type', 'last', 'null', 'is', 'lax', '\u00e9\u4e00'), textLiteral)
const step = fc.oneof(
  name.map((one) => `.${one}`),
  words('.*', '[*]', '[0]', '[ 12 ]', '[last]', '.size()', '.type()', '.number()', ' . a'),
)
const steps = fc.array(step, { maxLength: 3 }).map((all) => all.join(''))
const comparison = (path: fc.Arbitrary<string>) => {
  const sign = words('==', '!=', '<>', '<', '<=', '>', '>=')
  return fc.oneof(
    between(path, sign, literal),
    between(literal, sign, path),
    between(path, words(' starts with '), textLiteral),
    between(path, words(' like_regex '), words('"^a"', '"a|b" flag "i"', '"(" flag "q"')),
    between(words('exists('), path, words(')')),
  )
}
const combined = (one: fc.Arbitrary<string>) =>
  fc.oneof(
    one,
    between(one, words('&&', '||'), one),
    between(words('!('), one, words(')')),
    between(words('('), one, words(') is unknown')),
    between(words('(('), one, words('))')),
    between(words('!(('), one, words(') is unknown)')),
  )
const item = steps.map((text) => `@${text}`)
const filter = between(words('?('), combined(comparison(item)), words(')'))
const path = fc.oneof(
  steps.map((text) => `$${text}`),
  fc.tuple(steps, filter, steps).map(([before, inner, after]) => `$${before}${inner}${after}`),
  fc.tuple(words('$', '$.a'), name).map(([start, one]) => `${start}.**.${one}`),
)
const expression = fc.oneof(path, combined(comparison(path)), between(words('lax '), path))

/** What PostgreSQL says of each text. A condition returns true, false or null. Invalid patterns and numbers (wrong): only PostgreSQL knows. */
async function askPostgres(texts: string[]): Promise<(string | null)[]> {
  const { rows } = await sql<{ kind: string | null }>`
    SELECT CASE WHEN pg_input_is_valid(text, 'jsonpath') THEN
      CASE WHEN jsonb_path_query_array('{}', text::jsonpath, silent => true) <@ '[true, false, null]'
            AND jsonb_path_query_array('{}', text::jsonpath, silent => true) <> '[]' THEN 'condition' ELSE 'path' END
      WHEN (pg_input_error_info(text, 'jsonpath')).sql_error_code IN ('2201B', '22003') THEN 'wrong'
    END AS kind FROM unnest(${texts}::text[]) WITH ORDINALITY AS given (text, n) ORDER BY n`.execute(db)
  return rows.map(({ kind }) => kind)
}

/** What this parser says. */
function read(text: string): string | null {
  try {
    return readJsonpath(text).kind
  } catch {
    return null
  }
}

/** Asserts that PostgreSQL reads these texts, which the parser accepts, as it does. */
async function isSame(t: Test, texts: string[]): Promise<void> {
  const kinds = await askPostgres(texts)
  const different = texts.filter((text, n) => kinds[n] !== 'wrong' && kinds[n] !== read(text))
  t.same(different.slice(0, 5), [])
}

t.test('PostgreSQL reads every expression of the grammar as this parser does', async (t) => {
  const texts = fc.sample(expression, 2000)
  const kinds = new Set(texts.map(read))
  t.ok(kinds.has('condition') && kinds.has('path'), 'both kinds')
  const accepted = texts.filter((text) => read(text) !== null)
  // Some have too many conditions or steps.
  t.ok(accepted.length > 1000, `${accepted.length} are accepted`)
  await isSame(t, accepted)
})

t.test('PostgreSQL can read whatever this parser accepts, also of expressions with slips', async (t) => {
  const character = words(
    ...'$@.*?()[]!&|=<>"\\ 0a1-+,{}',
    'exists',
    '**',
    'is unknown',
    'last',
    '_',
    '\u00a0',
    '\u2028',
    '$',
  )
  const slip = fc.tuple(expression, fc.nat(), fc.nat(2), character).map(([text, where, cut, inserted]) => {
    const at = where % (text.length + 1)
    return text.slice(0, at) + inserted + text.slice(at + cut)
  })
  const accepted = fc.sample(slip, 5000).filter((text) => !text.includes('\0') && read(text) !== null)
  t.ok(accepted.length > 200, `${accepted.length} are still accepted`)
  await isSame(t, accepted)
})

// — cost —

/** How long a count takes, in milliseconds. */
async function time(source: string, filter: string, value: string): Promise<number> {
  const start = performance.now()
  const query = `source=${source}&limit=1&${filter}=${encodeURIComponent(value)}`
  const { status, text } = await get(`/v1/records?${query}`)
  if (status !== 200) throw new Error(text)
  return performance.now() - start
}

// Quadratic time would be hours for these. The baseline reads the same data for a filter without jsonpath.
t.test('the worst expressions for a record of 1 MiB take a small multiple of the simplest filter', async (t) => {
  const nested = (count: number) => `${'['.repeat(500)}${Array(count).fill('100').join()}${']'.repeat(500)}`
  await post(`{"source":"flat","type":"t","data":[${Array(260_000).fill('100').join()}]}`)
  await post(`{"source":"deep","type":"t","data":${nested(260_000)}}`)
  await post({ source: 'text', type: 't', data: 'ab'.repeat(500_000) })
  const all = (condition: string, count = MAX_CONDITIONS) => Array(count).fill(condition).join(' || ')
  const baselines = new Map<string, number>()
  for (const [source, path] of [
    ['flat', `$${'[*]'.repeat(MAX_STEPS)} == 7`],
    ['flat', `$[*] ? (${all('@ == 7')})`],
    ['flat', all('$[*] == 7')],
    ['flat', '$[*] ? (@.number() == 7 || @.number() == 8)'],
    ['flat', `$.** ? (${all('@ == 7', MAX_CONDITIONS_BELOW)})`],
    ['deep', `$.** ? (${all('@ == 7', MAX_CONDITIONS_BELOW)})`],
    ['deep', '$.**.number() == 7'],
    ['text', all('$ like_regex "(a|b)*a(a|b){60}c"')],
  ] as const) {
    const baseline = baselines.get(source) ?? (await time(source, 'data', '{"a":7}'))
    baselines.set(source, baseline)
    const taken = await time(source, 'jsonpath', path)
    t.comment(`${source} ${path.slice(0, 40)}: ${(taken / baseline).toFixed(1)} times`)
    t.ok(
      taken < 200 * baseline,
      `${source} ${path.slice(0, 40)}: ${Math.round(taken)} ms, ${Math.round(baseline)} ms without`,
    )
  }
})
