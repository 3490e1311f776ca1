import fc from 'fast-check'
import { sql } from 'kysely'
import t from 'tap'
import { isAllowed } from '../../src/data/allowed-sources.ts'
import { admits, prefixFault } from '../../src/lib/source-prefix.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

const { apiUrl, superUrl } = await createDatabase(t)
const db = connect(apiUrl)
t.teardown(() => db.destroy())

/** Which of these sources PostgreSQL lets a key with these prefixes read. */
async function selectAllowed(prefixes: string[], sources: string[]): Promise<string[]> {
  const { rows } = await sql<{ source: string }>`
    SELECT source FROM unnest(${sources}::text[]) WITH ORDINALITY AS given (source, ordinal)
    WHERE ${isAllowed(prefixes)} ORDER BY ordinal`.execute(db)
  return rows.map(({ source }) => source)
}

t.test('a prefix admits sources that belong to it, and no similar ones, here and in PostgreSQL', async (t) => {
  for (const [prefix, admitted, refused] of [
    [
      'shop',
      ['shop', 'shop/', 'shop/1', 'shop:1', 'shop.eu'],
      ['shopping-mall', 'shop2', 'shop-2', 'sho', 'Shop', 'a/shop'],
    ],
    ['shop/', ['shop/', 'shop/1', 'shop/1/2'], ['shop', 'shop:1']],
    ['urn:shop:', ['urn:shop:', 'urn:shop:1'], ['urn:shop', 'urn:shopping:1']],
    ['com.shop.', ['com.shop.till'], ['com.shop', 'com.shops.till']],
    ['shop*', ['shop', 'shop/1', 'shopping-mall'], ['sho', 'a/shop']],
    ['shop/*', ['shop/', 'shop/1'], ['shop']],
    ['shop**', ['shop*', 'shop*/1'], ['shop', 'shop/1']],
    ['100%', ['100%', '100%/x'], ['100', '1000', '100x/y']],
    // After a host, a dot or a colon can lead to a foreign host: to another domain, or to a user name before another host.
    [
      'https://shop.co',
      ['https://shop.co', 'https://shop.co/1'],
      ['https://shop.co.uk/1', 'https://shop.co:x@evil.example/', 'https://shop.com'],
    ],
    ['//shop.co', ['//shop.co/1'], ['//shop.co.uk']],
    [
      'https://shop.co/eu',
      ['https://shop.co/eu', 'https://shop.co/eu.1', 'https://shop.co/eu/1'],
      ['https://shop.co/europe'],
    ],
  ] as [string, string[], string[]][]) {
    const sources = [...admitted, ...refused]
    t.same(
      sources.filter((source) => admits([prefix], source)),
      admitted,
      prefix,
    )
    t.same(await selectAllowed([prefix], sources), admitted, `${prefix} in PostgreSQL`)
  }
})

t.test(
  'a source with a segment of dots is refused for any prefix, and allowed for a key without prefixes',
  async (t) => {
    const leading = [
      '',
      '/..',
      '/../admin',
      '/.',
      '/./1',
      '/%2e%2E/admin',
      '/.%2e/admin',
      '/1/..',
      '\\..\\admin',
      '%2f..%2Fadmin',
    ]
    const sources = [
      ...leading.slice(1).map((rest) => `shop${rest}`),
      ...['..', '.', '../shop', './shop', '%2e', 'shop/..?x', 'shop/..#x', 'shop/\t../x', 'shop/.. '],
      // URL parsers remove tabs and line breaks before they look for segments.
      ...['shop/.\t./x', 'shop/%2\ne%2e/x', 'shop/.\r', 'shop/a\tb'],
    ]
    for (const prefix of ['shop', 'shop/', 'shop*', '.', '..', '/', '*']) {
      for (const source of sources) t.notOk(admits([prefix], source), `${prefix} ${JSON.stringify(source)}`)
      t.same(await selectAllowed([prefix], sources), [], `${prefix} in PostgreSQL`)
    }
    for (const source of sources) t.ok(admits([], source), `no prefix ${JSON.stringify(source)}`)
    const harmless = ['shop/...', 'shop/.hidden', 'shop/a..b', 'shop/v1.2', 'shop/a.', 'shop/..a', 'shop/%2e1']
    for (const source of harmless) t.ok(admits(['shop'], source), source)
    t.same(await selectAllowed(['shop'], harmless), harmless)
  },
)

t.test('for any prefixes and sources, PostgreSQL lets a key read exactly what it may send', async (t) => {
  const pieces = [
    'shop',
    'a',
    'A',
    '/',
    ':',
    '.',
    '*',
    '%',
    '_',
    '%2e',
    '%2F',
    '\\',
    '?',
    '#',
    ' ',
    '\t',
    'é',
    '🦀',
    '//',
    'https://',
  ]
  const text = (maxLength: number) =>
    fc.oneof(
      fc.array(fc.constantFrom(...pieces), { minLength: 1, maxLength }).map((parts) => parts.join('')),
      fc.string({ unit: 'grapheme', minLength: 1, maxLength }).filter((value) => !value.includes('\0')),
    )
  const prefixes = fc.array(text(3), { minLength: 1, maxLength: 3 })
  // Half of the sources begin with a prefix, because others are rarely admitted.
  const cases = prefixes.chain((given) =>
    fc.tuple(
      fc.constant(given),
      fc.array(
        fc.oneof(
          text(4),
          fc.tuple(fc.constantFrom(...given), text(4)).map(([prefix, rest]) => prefix.replace(/\*$/, '') + rest),
        ),
        { minLength: 20, maxLength: 40 },
      ),
    ),
  )
  let admitting = 0
  await fc.assert(
    fc.asyncProperty(cases, async ([given, sources]) => {
      const expected = sources.filter((source) => admits(given, source))
      if (expected.length > 0) admitting++
      const found = await selectAllowed(given, sources)
      if (JSON.stringify(found) !== JSON.stringify(expected))
        throw new Error(
          `${JSON.stringify(given)}: ${JSON.stringify(expected)}, and PostgreSQL: ${JSON.stringify(found)}`,
        )
    }),
    { numRuns: 200 },
  )
  // Usually about 150 of 200, as the message says.
  t.ok(admitting > 100, `${admitting} lists of prefixes admitted a source`)
})

t.test('reads of a key with prefixes use the identity index', async (t) => {
  const root = connect(superUrl)
  t.teardown(() => root.destroy())
  await sql`
    INSERT INTO sluice.records (epoch, n, source, id, type)
    SELECT 1, n, 'source' || n % 5000, n::text, 't' FROM generate_series(1, 20000) AS n`.execute(root)
  await sql`ANALYZE sluice.records`.execute(root)
  const { rows } = await sql<{ 'QUERY PLAN': string }>`
    EXPLAIN SELECT FROM sluice.records WHERE ${isAllowed(['source7', 'source8/', 'source99*'])}`.execute(root)
  const plan = rows.map((row) => row['QUERY PLAN']).join('\n')
  t.match(plan, /records_identity/)
  t.notMatch(plan, /Seq Scan/)
})

t.test(
  'a new key cannot have a prefix that matches everything or nothing, has a * before its end, or is too long',
  async (t) => {
    for (const prefix of ['', '*', '**', 'a*b', '*a', 'a**', 'x'.repeat(513), 'é'.repeat(257)])
      t.match(prefixFault(prefix), /\S/, prefix)
    for (const prefix of ['..', 'shop/..', 'shop/../a', 'shop/%2e/', 'shop/./*', 'shop/a\tb']) {
      t.match(prefixFault(prefix), /\S/, prefix)
      t.notOk(admits([prefix], prefix.replace(/\*$/, 'a')), prefix)
    }
    for (const prefix of [
      'shop/.*',
      'shop/..*',
      'a',
      'a/',
      'a*',
      'x'.repeat(512),
      `${'x'.repeat(512)}*`,
      'é'.repeat(256),
    ])
      t.equal(prefixFault(prefix), undefined, prefix)
  },
)
