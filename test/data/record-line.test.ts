import fc from 'fast-check'
import { sql } from 'kysely'
import t from 'tap'
import { readFeed, START } from '../../src/data/read-feed.ts'
import { selectRecord } from '../../src/data/select-records.ts'
import { toFeedRecords } from '../../src/feed/feed-record.ts'
import { connect } from '../../src/postgres/connect.ts'
import { writeRecord } from '../../src/read/write-record.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

const { apiUrl, ownerUrl } = await createDatabase(t)
const owner = connectAs(ownerUrl)
const db = connect({ url: apiUrl, name: 'lines', connections: 1, statementTimeoutMs: 60_000, onError: () => {} })
t.teardown(() => Promise.all([owner.destroy(), db.destroy()]))
const { signal } = new AbortController()

const text = (maxLength: number) =>
  fc
    .string({
      unit: fc.oneof(
        fc.constantFrom('"', '\\', '\b', '\t', '\x01', '\x7f', '\u2028', '{', '}'),
        fc.string({ unit: 'binary', maxLength: 1 }),
      ),
      maxLength,
    })
    .map((made) => made.replaceAll('\0', ''))
const perhaps = <Value>(value: fc.Arbitrary<Value>) => fc.option(value, { nil: null })
const time = fc
  .tuple(fc.integer({ min: -62_135_596_800, max: 253_402_300_799 }), fc.constantFrom('', '.5', '.000001', '.12'))
  .map(([seconds, fraction]) => new Date(seconds * 1000).toISOString().replace('.000Z', `${fraction}Z`))
/** JSON as a client may send it: with any white space between its tokens, and numbers that a double cannot hold. */
const json = fc
  .tuple(fc.jsonValue(), fc.constantFrom('', '\n', '\r\n\t', ' '))
  .map(
    ([value, space]) =>
      `{"a":${space}${JSON.stringify(value).replaceAll('\\u0000', '')}${space},"n": 12345678901234567890.10${space}}`,
  )
const row = fc.record({
  epoch: fc.integer({ min: 1, max: 2 ** 31 - 2 }),
  xid: fc.bigInt({ min: 3n, max: 700n }),
  n: fc.maxSafeNat(),
  received_at: time,
  time: perhaps(time),
  source: text(100).map((made) => `s${made}`),
  type: text(20).map((made) => `t${made}`),
  subject: perhaps(text(20)),
  dataschema: perhaps(fc.webUrl()),
  datacontenttype: perhaps(fc.constantFrom('application/json', 'text/plain; a="b"')),
  extensions: perhaps(
    fc.dictionary(
      fc.string({ unit: fc.constantFrom('a', 'b', '1'), minLength: 1 }),
      fc.oneof(text(9), fc.integer(), fc.boolean()),
      { minKeys: 1 },
    ),
  ),
  payload: fc.oneof(
    fc.constant({ data: null, bytes: null }),
    json.map((data) => ({ data, bytes: null })),
    fc.uint8Array({ maxLength: 200, size: 'max' }).map((bytes) => ({ data: null, bytes: Buffer.from(bytes) })),
  ),
})

t.test('the line of a record is what reading it returns, with spaces instead of line breaks', async (t) => {
  await sql`SELECT sluice.current_epoch()`.execute(owner)
  let compared = 0
  await fc.assert(
    fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 20 }), async (rows) => {
      await sql`TRUNCATE sluice.records`.execute(owner)
      // All are of the past: none is after the oldest running transaction of the current epoch.
      await sql`UPDATE sluice.epochs SET epoch = 2147483647`.execute(owner)
      for (const [index, { epoch, xid, n, received_at, time, source, type, subject, ...others }] of rows.entries()) {
        const { dataschema, datacontenttype, extensions, payload } = others
        const id = `"${index}`
        await sql`
          INSERT INTO sluice.records (epoch, xid, n, received_at, "time", source, id, type, subject, dataschema, datacontenttype, extensions, data, data_bytes)
          VALUES (${epoch}, ${String(xid)}::xid8, ${n}, ${received_at}, ${time}, ${source}, ${id}, ${type}, ${subject}, ${dataschema}, ${datacontenttype},
                  ${extensions === null ? null : JSON.stringify(extensions)}::jsonb, ${payload.data}::json, ${payload.bytes})
          ON CONFLICT DO NOTHING`.execute(owner)
      }
      const { lines } = await readFeed(
        db,
        { filter: { allowedPrefixes: [] }, after: START, limit: 1000, maxBytes: 2 ** 30 },
        signal,
      )
      const records = toFeedRecords(lines)
      const { rows: stored } = await sql<{ source: string; id: string }>`SELECT source, id FROM sluice.records`.execute(
        owner,
      )
      if (records.length !== stored.length) throw new Error(`${records.length} of ${stored.length} records`)
      for (const { source, line, offset, type, subject } of records) {
        const { id } = JSON.parse(line)
        const record = await selectRecord(db, source, id)
        if (record === undefined) throw new Error(`${source} ${id} is not stored`)
        const written = writeRecord(record).replaceAll(/[\r\n]/g, ' ')
        if (line !== `${written}\n`) throw new Error(`${line} is not ${written}`)
        if (JSON.parse(written).cursor !== offset || record.type !== type || record.subject !== subject)
          throw new Error(line)
        compared++
      }
    }),
    { numRuns: 40 },
  )
  t.ok(compared > 100, `${compared} records were compared`)
})
