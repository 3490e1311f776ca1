import { readFile } from 'node:fs/promises'
import { maxHeaderSize } from 'node:http'
import t from 'tap'
import { MAX_RATIO } from '../src/ingest/inflate.ts'
import { MAX_SENT_MEMBERS } from '../src/ingest/json-records.ts'
import { MAX_REJECTIONS } from '../src/ingest/line-report.ts'
import { MAX_DEPTH } from '../src/lib/json/extent.ts'
import { MAX_DIGITS_AFTER_POINT, MAX_DIGITS_BEFORE_POINT } from '../src/lib/json/unstorable.ts'
import { MAX_PREFIX_BYTES } from '../src/lib/source-prefix.ts'
import { PROBLEMS } from '../src/problems.ts'
import { MAX_FIELD_STEPS, MAX_FIELDS, MAX_FIELDS_LENGTH } from '../src/read/fields.ts'
import { MAX_CONDITIONS, MAX_CONDITIONS_BELOW, MAX_JSONPATH } from '../src/read/jsonpath.ts'
import { MAX_STEPS } from '../src/read/jsonpath-steps.ts'
import { MAX_PATTERN, MAX_PATTERN_SIZE } from '../src/read/like-regex.ts'
import { MAX_BODY_BYTES } from '../src/routes/keys.ts'
import { MAX_BYTES } from '../src/schemas/formats.ts'
import { KeyRequestSchema } from '../src/schemas/keys.ts'
import { MAX_LIMIT } from '../src/schemas/list.ts'
import { createApp } from './helpers/app.ts'
import { isRefused } from './helpers/refused.ts'

const app = await createApp(t)
const read = (path: string) => readFile(new URL(`../${path}`, import.meta.url), 'utf8')
const manual = await read('src/README.md')

const KiB = 1024
const { name, sourcePrefixes, recordsPerSecond } = KeyRequestSchema.properties
/** The first column of each row of the manual's table that has numbers, and these numbers. */
const ROWS: Record<string, number[]> = {
  '`source`': [MAX_BYTES.source],
  '`id`, `type`': [MAX_BYTES.id],
  '`dataschema`, `datacontenttype`': [MAX_BYTES.dataschema],
  'a number in `data`': [MAX_DIGITS_BEFORE_POINT, MAX_DIGITS_AFTER_POINT],
  'nesting of `data`': [MAX_DEPTH],
  'members of a record': [MAX_SENT_MEMBERS],
  'a compressed body': [MAX_RATIO],
  'the headers of a request': [maxHeaderSize / KiB],
  '`Idempotency-Key`': [MAX_BYTES.idempotencyKey],
  'records on a page': [MAX_LIMIT],
  '`jsonpath`': [MAX_JSONPATH, MAX_CONDITIONS, MAX_CONDITIONS_BELOW, MAX_STEPS],
  'a pattern of `like_regex`': [MAX_PATTERN, MAX_PATTERN_SIZE],
  '`fields`': [MAX_FIELDS, MAX_FIELDS_LENGTH, MAX_FIELD_STEPS],
  'rejected lines': [MAX_REJECTIONS],
  'an API key': [
    name.maxLength as number,
    sourcePrefixes.maxItems as number,
    MAX_PREFIX_BYTES,
    recordsPerSecond.anyOf[0].maximum as number,
    MAX_BODY_BYTES / KiB,
  ],
}

t.test("the manual's table of limits has the limits of the code", async (t) => {
  t.equal(MAX_BYTES.type, MAX_BYTES.id, 'they share a row')
  t.equal(MAX_BYTES.datacontenttype, MAX_BYTES.dataschema, 'they share a row')
  t.equal(MAX_PREFIX_BYTES, MAX_BYTES.source, 'a prefix can be as long as a source')
  const table = manual.slice(manual.indexOf('**Limits.**'), manual.indexOf('**Lines.**')).split('\n')
  for (const [what, numbers] of Object.entries(ROWS)) {
    const row = table.find((row) => row.startsWith(`| ${what}`)) ?? ''
    for (const number of numbers) t.match(row, new RegExp(`\\b${number.toLocaleString('en')}\\b`), `${what}: ${number}`)
  }
  for (const row of table.filter((row) => row.startsWith('| ')).slice(2)) {
    const [, code = ''] = /`(\w+)`[^`|]*\|$/.exec(row) ?? []
    t.ok(code in PROBLEMS || row.includes('`rejectionsOmitted`'), `${row}: a code of the catalogue`)
  }
})

t.test('the README states the sizes of the identity and of the type', async (t) => {
  const readme = await read('README.md')
  for (const name of ['source', 'type', 'id'] as const)
    t.match(readme, new RegExp(`^\\| \`${name}\` \\|.*\\b1–${MAX_BYTES[name]} bytes`, 'm'), name)
})

t.test('the OpenAPI document has the limits of a record', async (t) => {
  const { components, paths } = (await app.get('/openapi.json')).json
  const { post } = paths['/v1/records']
  const { properties } = components.schemas.RecordInput
  const { idempotencyKey, ...attributes } = MAX_BYTES
  for (const [name, bytes] of Object.entries(attributes)) {
    t.equal(properties[name].maxLength, bytes, name)
    t.match(properties[name].description, new RegExp(`\\b${bytes} bytes`), `${name}: in bytes`)
  }
  const header = post.parameters.find(({ name }: { name: string }) => name === 'idempotency-key')
  t.equal(header.schema.maxLength, idempotencyKey)
  for (const limit of [MAX_SENT_MEMBERS.toLocaleString('en'), MAX_DEPTH, 'MAX_RECORD_BYTES', 'MAX_BATCH_BYTES'])
    t.match(post.description, String(limit))
})

// CloudEvents 1.0.2, "Size Limits". The limit of `subject` was 1,024 bytes.
t.test('an event of 64 KiB is stored, whichever attribute is large, alone, in an array and as a line', async (t) => {
  const size = 64 * KiB
  const large = {
    subject: '\u00e9'.repeat(size / 2),
    extension: 'x'.repeat(size),
    dataschema: `https://example.com/${'%20'.repeat((size - 20) / 3)}`,
    datacontenttype: `text/plain; a="${'\\"'.repeat((size - 17) / 2)}"`,
  }
  for (const [name, value] of Object.entries(large)) {
    const record = { source: 's', type: 't', id: name, [name]: value }
    t.equal((await app.post(record)).status, 201, name)
    t.equal((await app.get(`/v1/records/s/${name}`)).json[name], value, `${name} is read back`)
    t.equal((await app.post([record])).status, 200, `${name}: in an array`)
    t.match((await app.post(JSON.stringify(record), { 'content-type': 'application/x-ndjson' })).json.counts, {
      duplicate: 1,
    })
  }
})

t.test('a subject may be as large as a record, and a larger URI or media type is rejected', async (t) => {
  t.equal((await app.post({ source: 's', type: 't', subject: 'x'.repeat(2 ** 20 - 100) })).status, 201)
  const tooLong = {
    source: 'x'.repeat(MAX_BYTES.source + 1),
    id: 'x'.repeat(MAX_BYTES.id + 1),
    type: 'x'.repeat(MAX_BYTES.type + 1),
    dataschema: `urn:${'x'.repeat(MAX_BYTES.dataschema)}`,
    datacontenttype: `a/${'x'.repeat(MAX_BYTES.datacontenttype)}`,
  }
  for (const [name, value] of Object.entries(tooLong))
    await isRefused(t, app, JSON.stringify({ source: 's', type: 't', [name]: value }), 'invalid_value', `/${name}`)
})
