import assert from 'node:assert/strict'
import fc from 'fast-check'
import { sql } from 'kysely'
import t from 'tap'
import { BYTES, selects } from '../../src/data/deletable.ts'
import { connect as connectAs } from '../../src/postgres/connect.ts'
import { DeletedTotals, retain } from '../../src/retention/apply-policies.ts'
import { type Policy, parsePolicies } from '../../src/retention/policies.ts'
import type { PolicyInput } from '../../src/schemas/policies.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { addRecords, ids, many, type RecordFields } from '../helpers/retention.ts'

const database = await createDatabase(t)
const owner = connect(database.ownerUrl, 2)
// Connects as the role that runs maintenance in the cluster.
const db = connectAs({
  url: database.maintenanceUrl,
  name: 'test',
  connections: 1,
  statementTimeoutMs: 0,
  onError: () => {},
})
t.teardown(() => Promise.all([owner.destroy(), db.destroy()]))

const DAY = 86_400

/** Applies policies to a table that has only these records. Without records, it uses the table as it is. */
async function apply(
  policies: PolicyInput[],
  records: readonly RecordFields[] = [],
  { dryRun = false } = {},
): Promise<DeletedTotals> {
  if (records.length > 0) {
    await sql`TRUNCATE sluice.records`.execute(owner)
    await addRecords(owner, records)
  }
  const parsed = parsePolicies(JSON.stringify(policies), 'policies.json')
  const removed = new DeletedTotals(parsed)
  const stop = new AbortController().signal
  const completed = await retain(db, parsed, { dryRun, stop, maxSeries: 1000, onBatch: (batch) => removed.add(batch) })
  assert.ok(completed)
  return removed
}

// How the records of a wrong load are removed.
t.test('maxCount 0 deletes every selected record and no other', async (t) => {
  const loaded = { source: 'shop', extensions: { batch: 'import-7' } }
  const records = [
    { ...loaded, id: 'loaded' },
    { ...loaded, id: 'a number', extensions: { batch: 'import-7', sequence: 5 } },
    { ...loaded, id: 'another batch', extensions: { batch: 'import-70' } },
    { id: 'no extensions' },
    { id: 'another source', source: 'wrong' },
  ]
  const keep = async (policy: PolicyInput) => {
    await apply([{ ...policy, maxCount: 0 }], records)
    return ids(owner)
  }
  t.same(await keep({ extensions: { batch: 'import-7' } }), ['another batch', 'no extensions', 'another source'])
  t.same(await keep({ source: 'wrong' }), ['loaded', 'a number', 'another batch', 'no extensions'])
  t.same((await keep({ extensions: { batch: 'import-7', sequence: '5' } })).length, 4, 'numbers compare as text')
  t.same((await keep({ extensions: { batch: 'import-7', other: 'x' } })).length, 5, 'all attributes must be equal')
})

t.test('maxAge deletes records of the selected type that were received longer ago', async (t) => {
  const removed = await apply(
    [{ type: 'click', maxAge: '30d' }],
    [
      { id: 'old', type: 'click', age: 31 * DAY },
      { id: 'other type', type: 'order', age: 31 * DAY },
      { id: 'just younger', type: 'click', age: 30 * DAY - 3600 },
      { id: 'just older', type: 'click', age: 30 * DAY + 3600 },
      { id: 'new', type: 'click' },
    ],
  )
  t.same(await ids(owner), ['other type', 'just younger', 'new'])
  t.equal(removed.records, 2)
})

// A client's clock can be wrong. If `time` counted, a clock that is a year ahead would keep its records for a year too long, and
// the records of a clock that starts in 1970 would be deleted at once.
t.test('the age of a record counts from its receipt, whatever its time says', async (t) => {
  await apply(
    [{ maxAge: '1d' }],
    [
      { id: 'old, time in the future', age: 2 * DAY, time: '9999-12-31T00:00:00Z' },
      { id: 'old, time in the past', age: 2 * DAY, time: '0001-01-01T00:00:00Z' },
      { id: 'new, time in the past', time: '0001-01-01T00:00:00Z' },
      { id: 'new, time in the future', time: '9999-12-31T00:00:00Z' },
      // By a server whose clock was an hour ahead and was then corrected.
      { id: 'received in the future', age: -3600 },
    ],
  )
  t.same(await ids(owner), ['new, time in the past', 'new, time in the future', 'received in the future'])
})

// The feed can have this order after a server's clock was set back.
t.test('an old record that comes after younger ones in the feed is deleted as well', async (t) => {
  await apply([{ maxAge: '1d' }], [...many(600), { age: 2 * DAY }])
  t.equal((await ids(owner)).length, 600)
})

t.test('the search for old records ends after ten thousand that are all young', async (t) => {
  await sql`TRUNCATE sluice.records`.execute(owner)
  await addRecords(owner, [{ age: 2 * DAY }, ...many(40_000)])
  let seen = 0
  const policies = parsePolicies('[{"maxAge": "1d"}]', '')
  const onBatch = (batch: { seen: number }) => {
    seen += batch.seen
  }
  await retain(db, policies, { dryRun: false, stop: new AbortController().signal, maxSeries: 1000, onBatch })
  t.ok(seen > 10_000 && seen < 25_000, `${seen} records were examined`)
  t.equal((await ids(owner)).length, 40_000)
})

t.test('maxCount keeps the newest of the selected records', async (t) => {
  const records = many(3000, (index) => ({ id: `${index}`, source: index % 3 === 0 ? 'shop' : 'other' }))
  const removed = await apply([{ source: 'shop', maxCount: 100 }], records)
  t.equal(removed.records, 900)
  const left = await ids(owner)
  t.equal(left.length, 2100)
  t.same(
    left.filter((id) => Number(id) % 3 === 0),
    many(100).map((_, index) => `${2700 + 3 * index}`),
  )
  t.equal((await apply([{ source: 'shop', maxCount: 100 }])).records, 0, 'a second run has nothing to delete')
})

t.test('maxBytes keeps as many of the newest records as fit into the limit', async (t) => {
  const records = many(2000, (index) => ({ id: `${index}`, type: index % 2 === 0 ? 'big' : 'small', size: 1000 }))
  const before = await apply([{ type: 'big', maxAge: '1s' }], records, { dryRun: true })
  t.equal(before.records, 0)
  await apply([{ type: 'big', maxBytes: '100kB' }])
  const { records: left, bytes } = await weigh({ type: 'big' })
  t.ok(bytes <= 100_000, `${bytes} bytes are left`)
  t.ok(bytes + bytes / left > 100_000, 'one more record would not fit')
  t.equal((await weigh({ type: 'small' })).records, 1000)
})

t.test('the counted bytes of records are within 15 % of their size on disk', async (t) => {
  for (const size of [2, 300, 5000]) {
    const removed = await apply(
      [{ maxAge: '1s' }],
      many(4000, () => ({ age: 60, id: crypto.randomUUID(), size })),
      {
        dryRun: true,
      },
    )
    // Rewrites the table without the free space that page splits leave.
    await sql`VACUUM FULL sluice.records`.execute(owner)
    const { rows } = await sql<{ bytes: string }>`SELECT pg_total_relation_size('sluice.records') AS bytes`.execute(
      owner,
    )
    const ratio = removed.bytes / Number(rows[0]?.bytes)
    t.ok(ratio > 0.85 && ratio < 1.15, `${ratio} of the size on disk, with payloads of ${size} bytes`)
  }
})

t.test('a record is deleted if any policy matches it, and counts once in the total', async (t) => {
  const removed = await apply(
    [{ type: 'click', maxAge: '30d' }, { source: 'shop', maxCount: 2 }, { maxCount: 100 }],
    [
      { id: 'both', type: 'click', source: 'shop', age: 40 * DAY },
      { id: 'by age', type: 'click', source: 'other', age: 35 * DAY },
      { id: 'by count', type: 'order', source: 'shop', age: 32 * DAY },
      { id: 'kept 1', type: 'click', source: 'shop', age: 2 },
      { id: 'kept 2', type: 'order', source: 'shop', age: 1 },
    ],
  )
  t.same(await ids(owner), ['kept 1', 'kept 2'])
  t.equal(removed.records, 3)
  t.match(removed.shares, [{ records: 2 }, { records: 2 }, { records: 0, bytes: 0, oldest: undefined }])
  const [byAge] = removed.shares
  const age = (time = '') => Math.round((Date.now() - Date.parse(time)) / 1000 / DAY)
  t.same([age(byAge?.oldest), age(byAge?.newest)], [40, 35])
})

t.test('special characters in a type or a prefix have no special meaning', async (t) => {
  const prefix = `urn:${'p'.repeat(508)}`
  const hostile = [`'; DROP TABLE sluice.records; --`, `100%`, `a_c`, `back\\slash`, `"quoted"`, `💥`, `$1`, `e\u0301`]
  for (const type of hostile) {
    const others = ['abc', '1000', 'é', 'x']
    await apply(
      [{ type, maxAge: '1d' }],
      [type, ...others].map((type) => ({ id: type, type, age: 2 * DAY })),
    )
    t.same(await ids(owner), others, type)
    await apply(
      [{ typePrefix: type, maxAge: '1d' }],
      [`${type}.more`, ...others].map((type) => ({ id: type, type, age: 2 * DAY })),
    )
    t.same(await ids(owner), others, `${type} as a prefix`)
  }
  await apply(
    [
      { sourcePrefix: prefix, maxAge: '1d' },
      { sourcePrefix: 'a%2', maxAge: '1d' },
    ],
    [prefix, prefix.slice(1), 'a%2Fb', 'aX2Fb'].map((source) => ({ id: source.slice(0, 200), source, age: 2 * DAY })),
  )
  t.same(await ids(owner), [prefix.slice(1, 201), 'aX2Fb'], 'a prefix of 512 bytes, and one with a percent sign')
})

t.test('a record that is not in the feed yet is not deleted', async (t) => {
  await sql`TRUNCATE sluice.records`.execute(owner)
  await addRecords(owner, [{ id: 'before', age: 2 * DAY }])
  const open = await owner.startTransaction().execute()
  await addRecords(open, [{ id: 'open', age: 2 * DAY }])
  await addRecords(owner, [{ id: 'behind it', age: 2 * DAY }])

  const policies = parsePolicies('[{"maxAge": "1d"}, {"maxCount": 1}]', '')
  const run = () =>
    retain(db, policies, { dryRun: false, stop: new AbortController().signal, maxSeries: 1000, onBatch: () => {} })
  await run()
  t.same(await ids(owner), ['behind it'])
  await open.commit().execute()
  t.same(await ids(owner), ['open', 'behind it'])
  await run()
  t.same(await ids(owner), [])
})

t.test('a dry run reports the same as the run, and deletes nothing', async (t) => {
  const policies: PolicyInput[] = [{ type: 'a', maxAge: '1d' }, { maxBytes: '100kB' }, { typePrefix: 'b', maxCount: 3 }]
  const records = many(1500, (index) => ({ type: 'abc'.charAt(index % 3), age: (1500 - index) * 120 }))
  const dry = await apply(policies, records, { dryRun: true })
  t.equal((await ids(owner)).length, 1500)
  t.ok(dry.records > 0)
  t.same(await apply(policies), dry)
  t.equal((await ids(owner)).length, 1500 - dry.records)
})

t.test('without policies nothing is deleted', async (t) => {
  t.match(await apply([], many(3)), { records: 0, shares: [] })
  t.equal((await ids(owner)).length, 3)
})

// Compares the result with a plain model of the manual's rules, for arbitrary records and policies.
t.test('exactly the records that the policies match are deleted', async (t) => {
  const text = (...values: string[]) => fc.constantFrom(...values)
  const record = fc.record({
    type: text('a', 'ab', 'b'),
    source: text('s', 's/1', 't'),
    age: fc.integer({ min: 1, max: 40 }).map((hours) => hours * 3600 - 1800),
    size: text('2', '500', '3000').map(Number),
  })
  const scope = fc.record({
    kind: text('type', 'typePrefix', ''),
    type: text('a', 'ab', 'c'),
    where: text('source', 'sourcePrefix', ''),
    source: text('s', 's/', 't'),
  })
  const limits = fc
    .record(
      {
        maxAge: fc.integer({ min: 1, max: 40 }).map((hours) => `${hours}h`),
        maxCount: fc.integer({ min: 1, max: 900 }),
        maxBytes: fc.integer({ min: 1, max: 900 }).map((kB) => `${kB}kB`),
      },
      { requiredKeys: [] },
    )
    .filter((limits) => Object.keys(limits).length > 0)
  const policy = fc.tuple(scope, limits).map(([{ kind, type, where, source }, limits]) => ({
    ...(kind === '' ? {} : { [kind]: type }),
    ...(where === '' ? {} : { [where]: source }),
    ...limits,
  }))

  await fc.assert(
    fc.asyncProperty(
      fc.array(record, { minLength: 1, maxLength: 1200, size: 'max' }),
      fc.array(policy, { minLength: 1, maxLength: 3 }),
      async (records, policies) => {
        const given = records.map((record, index) => ({ ...record, id: `${index}` }))
        const parsed = parsePolicies(JSON.stringify(policies), '')
        await apply(policies, given, { dryRun: true })
        const sizes = await bytesOfEach()
        const matched = new Set(parsed.flatMap((policy) => matchesOf(policy, given, sizes)))
        const removed = await apply(policies)
        const left = given.map(({ id }) => id).filter((id) => !matched.has(id))
        assert.deepEqual(await ids(owner), left)
        assert.equal(removed.records, matched.size)
      },
    ),
    { numRuns: 15 },
  )
  t.pass()
})

/** The ids of the records that a policy deletes. */
function matchesOf(
  policy: Policy,
  records: Required<Pick<RecordFields, 'id' | 'type' | 'source' | 'age'>>[],
  sizes: number[],
): string[] {
  const { type, typePrefix = '', source, sourcePrefix = '' } = policy.selection
  const { maxAgeSeconds = Infinity, maxCount = Infinity, maxBytes = Infinity } = policy
  let [count, bytes] = [0, 0]
  return records.toReversed().flatMap((record) => {
    const selected =
      (type ?? record.type) === record.type &&
      (source ?? record.source) === record.source &&
      record.type.startsWith(typePrefix) &&
      record.source.startsWith(sourcePrefix)
    if (!selected) return []
    count++
    bytes += sizes[Number(record.id)] as number
    return record.age > maxAgeSeconds || count > maxCount || bytes > maxBytes ? [record.id] : []
  })
}

/** The size of each record, by its id. */
async function bytesOfEach(): Promise<number[]> {
  const { rows } = await sql<{
    id: string
    bytes: number
  }>`SELECT id, ${BYTES}::integer AS bytes FROM sluice.records`.execute(owner)
  const sizes: number[] = []
  for (const { id, bytes } of rows) sizes[Number(id)] = bytes
  return sizes
}

async function weigh(selection: { type: string }): Promise<{ records: number; bytes: number }> {
  const { rows } = await sql<{ records: number; bytes: number }>`
    SELECT count(*)::integer AS records, sum(${BYTES})::integer AS bytes FROM sluice.records WHERE ${selects(selection)}`.execute(
    owner,
  )
  return rows[0] as { records: number; bytes: number }
}
