import fc from 'fast-check'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { jsonText } from '../helpers/json-text.ts'

const { post, get } = await createApp(t)

/** The text of `data` in a response. In these tests, nothing else in a response looks like its delimiters. */
function dataOf(text: string): string {
  const start = text.indexOf('"data":') + '"data":'.length
  return text.slice(start, text.lastIndexOf(',"receivedAt":"'))
}

t.test('any JSON that is accepted as data is read back as exactly the same text', async (t) => {
  let run = 0
  await fc.assert(
    fc.asyncProperty(fc.array(jsonText(), { minLength: 1, maxLength: 8 }), async (payloads) => {
      run++
      const records = payloads.map((data, n) => `{"source":"property","data":${data},"type":"t","id":"${run}.${n}"}`)
      const response = await post(`[${records.join()}]`)
      if (response.status !== 201) throw new Error(response.text)
      for (const [n, data] of payloads.entries()) {
        const read = await get(`/v1/records/property/${run}.${n}`)
        if (dataOf(read.text) !== data.trim()) throw new Error(`${data} became ${read.text}`)
      }
    }),
    { numRuns: 100 },
  )
  t.equal(run, 100)
})

t.test('any accepted record is a duplicate if it is sent again', async (t) => {
  let run = 0
  await fc.assert(
    fc.asyncProperty(fc.array(jsonText(), { minLength: 1, maxLength: 8 }), async (payloads) => {
      run++
      const records = payloads.map((data, n) => `{"source":"again","type":"t","id":"${run}.${n}","data":${data}}`)
      const first = await post(`[${records.join()}]`)
      const second = await post(`[${records.join()}]`)
      return first.status === 201 && second.status === 200 && second.json.counts.duplicate === payloads.length
    }),
    { numRuns: 40 },
  )
  t.equal(run, 40)
})

const text = () =>
  fc.oneof(
    fc.string({ unit: 'grapheme', maxLength: 20 }),
    fc.string({ unit: 'binary', maxLength: 20 }),
    fc.constantFrom(
      '',
      '.',
      '\ud800',
      '\u0000',
      'x'.repeat(256),
      'x'.repeat(257),
      '\u{1f980}'.repeat(64),
      '%2F',
      'a/b',
    ),
  )
/** Mostly valid values, and sometimes any text or any JSON value. */
const mostly = (valid: fc.Arbitrary<unknown>) =>
  fc.oneof({ weight: 30, arbitrary: valid }, { weight: 2, arbitrary: text() }, { weight: 1, arbitrary: fc.jsonValue() })
const name = () => fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 })

const attributes = () =>
  fc.record(
    {
      source: mostly(fc.oneof(fc.webUrl({ withFragments: true, withQueryParameters: true }), fc.constant('shop'))),
      type: mostly(name()),
      id: mostly(name()),
      subject: mostly(name()),
      time: mostly(
        fc.oneof(
          fc
            .date({ min: new Date(-5e13), max: new Date(25e13), noInvalidDate: true })
            .map((date) => date.toISOString()),
          fc.constantFrom('2016-12-31T23:59:60Z', '0000-01-01T00:00:00Z', '9999-12-31T23:59:59-01:00'),
        ),
      ),
      dataschema: mostly(fc.webUrl()),
      datacontenttype: mostly(fc.constant('application/json')),
      specversion: mostly(fc.constantFrom('1.0', null)),
      data: fc.jsonValue({ depthSize: 'medium' }),
    },
    { requiredKeys: ['source', 'type'] },
  )
const extensions = () =>
  fc.dictionary(
    fc.oneof({ weight: 30, arbitrary: fc.stringMatching(/^[a-z0-9]{1,20}$/) }, { weight: 1, arbitrary: text() }),
    mostly(fc.oneof(name(), fc.boolean(), fc.integer(), fc.constant(null))),
    { maxKeys: 3, noNullPrototype: true },
  )

t.test('no envelope causes a server error, and accepted records are read back equal', async (t) => {
  let accepted = 0
  let refused = 0
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(attributes(), extensions()), { minLength: 1, maxLength: 8 }), async (parts) => {
      const records = parts.map(([attributes, extensions]) => ({ ...extensions, ...attributes }))
      const response = await post(records)
      if (response.status >= 500) throw new Error(response.text)
      for (const result of response.json.results ?? response.json.errors) {
        if (result.status !== 'created') {
          refused++
          continue
        }
        accepted++
        const identity = new URLSearchParams({ source: result.source, id: result.id })
        const read = (await get(`/v1/records?${identity}`)).json.records[0]
        const sent = JSON.parse(JSON.stringify(records[result.index])) as Record<string, unknown>
        for (const [name, value] of Object.entries(sent)) {
          if (value === null && name !== 'data') continue
          const same =
            name === 'time'
              ? Date.parse(read.time) === Date.parse(String(value))
              : JSON.stringify(read[name]) === JSON.stringify(value)
          if (!same) throw new Error(`${name}: ${JSON.stringify(value)} became ${JSON.stringify(read[name])}`)
        }
        const added = Object.keys(read).filter((name) => sent[name] === undefined || sent[name] === null)
        const known = new Set(['specversion', 'id', 'time', 'receivedAt', 'cursor', 'data'])
        if (!added.every((name) => known.has(name))) throw new Error(`added ${added}`)
      }
    }),
    { numRuns: 200 },
  )
  t.ok(accepted > 50, `${accepted} accepted`)
  t.ok(refused > 50, `${refused} refused`)
})

t.test('any body gets a problem document or results, and never a server error', async (t) => {
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    jsonText({ unstorable: true }).map((json) => Buffer.from(json)),
    jsonText({ unstorable: true }).map((json) => Buffer.from(`{"source":"s","type":"t","data":${json}}`)),
    fc.tuple(jsonText({ unstorable: true }), fc.nat(), fc.nat(255)).map(([json, at, byte]) => {
      const bytes = Buffer.from(`{"source":"s","type":"t","data":${json}}`)
      bytes[at % bytes.length] = byte
      return bytes
    }),
  )
  const statuses = new Set<number>()
  await fc.assert(
    fc.asyncProperty(body, async (bytes) => {
      const response = await post(bytes)
      statuses.add(response.status)
      return response.status < 500 && (response.json.results !== undefined || response.json.code !== undefined)
    }),
    { numRuns: 500 },
  )
  t.ok(statuses.has(201) && statuses.has(400) && statuses.has(422), [...statuses].join())
})
