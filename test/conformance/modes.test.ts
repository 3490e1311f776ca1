/**
 * The same CloudEvent is a duplicate of itself in whatever mode it arrives (CloudEvents 1.0.2, HTTP protocol binding, section 3),
 * from whatever SDK. The modes spell it differently: headers are text, JSON has types, and one of them may leave out what the
 * other one says.
 */
import { CloudEvent, HTTP } from 'cloudevents'
import t from 'tap'
import { createApp } from '../helpers/app.ts'

const { app, key } = await createApp(t)

/** A request that stores an event; undefined if the mode cannot express it. */
type Form = (id: string) => { headers: Record<string, string>; body: string | Buffer | undefined }
type Json = Record<string, unknown>

const required = { specversion: '1.0', source: 'https://example.com/modes', type: 'com.example.event' }

const structured =
  (members: Json): Form =>
  (id) => ({
    headers: { 'content-type': 'application/cloudevents+json' },
    body: JSON.stringify({ ...required, id, ...members }),
  })

const binary =
  (type: string | undefined, body: string | Buffer | undefined, attributes: Record<string, string> = {}): Form =>
  (id) => ({
    headers: {
      ...Object.fromEntries(
        Object.entries({ ...required, id, ...attributes }).map(([name, value]) => [`ce-${name}`, value]),
      ),
      ...(type === undefined ? {} : { 'content-type': type }),
    },
    body,
  })

/** The two modes of the official SDK. */
const sdk = (members: Json): Form[] =>
  [HTTP.binary, HTTP.structured].map((write) => (id) => {
    const { headers, body } = write(new CloudEvent({ ...required, id, ...members } as never))
    const texts = Object.entries(headers).map(([name, value]) => [name, String(value)])
    return {
      headers: Object.fromEntries(texts),
      body: body instanceof Uint8Array ? Buffer.from(body) : (body as string),
    }
  })

/** The other media types that take the JSON of an event. */
const repackaged = (form: Form): Form[] =>
  [
    ['application/json', '', ''],
    ['application/json', '[', ']'],
    ['application/cloudevents-batch+json', '[', ']'],
    ['application/x-ndjson', '', '\n'],
  ].map(([type = '', open, close]) => (id) => ({
    headers: { 'content-type': type },
    body: `${open}${form(id).body}${close}`,
  }))

let count = 0
const newId = () => `modes-${++count}`

async function send(form: Form, id: string): Promise<string> {
  const { headers, body } = form(id)
  const response = await app.inject({
    method: 'POST',
    url: '/v1/records',
    headers: { authorization: `Bearer ${key}`, ...headers },
    ...(body === undefined ? {} : { payload: body }),
  })
  const { counts, code } = response.json()
  const [status] = Object.entries(counts ?? {}).find(([, records]) => records === 1) ?? [code]
  return String(status)
}

const describe = (form: Form) => {
  const { headers, body } = form('id')
  return `${JSON.stringify(headers)} ${body}`.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 300)
}

const time = '2026-01-31T12:00:00.000Z'
const xml = '<a>caf\u00e9 \u{1f980}</a>'
const png = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x00, 0xff])
const everything = structured({
  subject: 'a subject',
  time,
  dataschema: 'https://example.com/schema',
  datacontenttype: 'application/json',
  count: 5,
  flag: true,
  text: 'caf\u00e9',
  data: { n: 1, list: [null, 1.5, 'caf\u00e9'] },
})

/** Each list has the same event in several forms. */
const SAME: Record<string, Form[]> = {
  'an event of the SDK': sdk({ time, subject: 's', count: 5, flag: false, data: { a: [1, null] } }),
  'an event of the SDK with a media type': sdk({ time, datacontenttype: 'application/json', data: { a: 1 } }),
  'an event of the SDK with text': sdk({ time, datacontenttype: 'text/plain', data: 'plain text' }),
  'an event of the SDK with XML': sdk({ time, datacontenttype: 'application/xml', data: xml }),
  'an event of the SDK with bytes': sdk({ time, datacontenttype: 'image/png', data: new Uint8Array(png) }),
  'an event of the SDK with JSON as bytes': sdk({
    time,
    datacontenttype: 'application/json',
    data: new Uint8Array(Buffer.from('{"a": 1}')),
  }),
  'an event of the SDK without data': sdk({ time }),
  'an event of the SDK with null': sdk({ time, data: null }),
  'an event of the SDK with a time in microseconds': sdk({ time: '2026-01-31T12:00:00.123456Z', data: {} }),
  'an event of the SDK with attributes that are not ASCII': sdk({
    time,
    subject: 'caf\u00e9',
    a: '50 % \u00fc',
    data: {},
  }),
  'an event of the SDK whose source is percent-encoded': sdk({ time, source: '/a%20b/caf%C3%A9', data: {} }),
  'all attributes': [
    everything,
    ...repackaged(everything),
    structured({
      data: { list: [null, 1.5, 'caf\u00e9'], n: 1 },
      text: 'caf\u00e9',
      flag: 'true',
      count: '5',
      dataschema: 'https://example.com/schema',
      time: '2026-01-31T13:00:00+01:00',
      subject: 'a subject',
    }),
    binary('application/json; charset=utf-8', '{ "list": [null, 15e-1, "caf\\u00e9"], "n": 1.0 }\n', {
      subject: '"a subject"',
      time: '2026-01-31t12:00:00.0z',
      dataschema: 'https://example.com/schema',
      count: '5',
      flag: 'true',
      text: 'caf%C3%A9',
    }),
  ],
  'a media type in several spellings': [
    undefined,
    'application/json',
    'Application/JSON',
    'application/json;charset=UTF-8',
    'application/json ; Charset="utf-8"',
    'application/json; charset=utf8',
  ].map((datacontenttype) => structured({ datacontenttype, data: 1 })),
  'parameters in several spellings': [
    'multipart/mixed; boundary=Aa; charset=latin1',
    'multipart/mixed;boundary="Aa";charset=latin1',
    'MULTIPART/mixed ;\tcharset=latin1; BOUNDARY="\\Aa"',
  ].map((type) => binary(type, 'x')),
  text: [
    binary('text/plain', 'a\r\n'),
    binary('text/plain; charset=utf-8', 'a\r\n'),
    structured({ datacontenttype: 'text/plain', data: 'a\r\n' }),
    structured({ datacontenttype: 'text/plain', data_base64: Buffer.from('a\r\n').toString('base64') }),
  ],
  'text in another charset': [
    binary('text/plain; charset=us-ascii', 'a'),
    structured({ datacontenttype: 'text/plain; charset=US-ASCII', data: 'a' }),
  ],
  'text that is neither text/* nor JSON': [
    binary('application/xml', xml),
    structured({ datacontenttype: 'application/xml', data: xml }),
  ],
  'text that looks like JSON': [
    binary('text/plain', '{"a":1}'),
    structured({ datacontenttype: 'text/plain', data: '{"a":1}' }),
  ],
  'JSON with a suffix': [
    binary('application/vnd.x+json', '{"a":1}'),
    structured({ datacontenttype: 'application/vnd.x+json', data: { a: 1 } }),
    structured({ datacontenttype: 'application/vnd.x+JSON; charset=utf-8', data_base64: btoa('{"a":1}\n') }),
  ],
  bytes: [binary('image/png', png), structured({ datacontenttype: 'image/png', data_base64: png.toString('base64') })],
  'no data': [
    structured({}),
    structured({ datacontenttype: 'application/json' }),
    structured({ data_base64: '' }),
    binary(undefined, undefined),
    binary('application/json', undefined),
    binary('application/json', ''),
  ],
  'empty text': [
    structured({ datacontenttype: 'text/plain', data: '' }),
    structured({ datacontenttype: 'text/plain', data_base64: '' }),
    structured({ datacontenttype: 'text/plain' }),
    binary('text/plain', ''),
  ],
  'no text': [
    structured({ datacontenttype: 'text/plain', data: null }),
    structured({ datacontenttype: 'text/plain' }),
    binary('text/plain', undefined),
  ],
  'JSON null': [structured({ data: null }), binary('application/json', 'null')],
  'JSON text': [
    structured({ data: '5' }),
    structured({ data_base64: btoa('"5"') }),
    binary('application/json', '"5"'),
    binary(undefined, '"5"'),
  ],
}

for (const [name, forms] of Object.entries(SAME)) {
  t.test(`the same event is a duplicate in every form: ${name}`, async (t) => {
    for (const first of forms) {
      const id = newId()
      t.equal(await send(first, id), 'created', describe(first))
      for (const form of forms) t.equal(await send(form, id), 'duplicate', `${describe(first)}, then ${describe(form)}`)
    }
  })
}

/** Each pair has events that differ, although they look alike. */
const DIFFERENT: Record<string, [Form, Form]> = {
  'another media type': [binary('text/plain', 'a'), binary('text/html', 'a')],
  'another charset': [binary('text/plain', 'a'), binary('text/plain; charset=iso-8859-1', 'a')],
  'a parameter that is not the charset': [binary('text/plain; format=utf-8', 'a'), binary('text/plain', 'a')],
  'a parameter in another case': [binary('a/b; boundary=a', 'x'), binary('a/b; boundary=A', 'x')],
  'a number that is not in canonical form': [structured({ count: 5 }), structured({ count: '05' })],
  'another boolean': [structured({ flag: true }), binary('application/json', undefined, { flag: 'false' })],
  'an attribute more': [structured({ a: 'x' }), structured({ a: 'x', b: 'x' })],
  'a string and a number': [structured({ data: '5' }), binary('application/json', '5')],
  'a string and the same characters as bytes': [
    structured({ data: 'a' }),
    structured({ datacontenttype: 'application/json', data_base64: btoa('a') }),
  ],
  'null and no data': [structured({ data: null }), structured({})],
  'an empty JSON string and no data': [structured({ data: '' }), structured({})],
  'text with a line break more': [binary('text/plain', 'a'), binary('text/plain', 'a\n')],
  'bytes with a line break more': [binary('image/png', 'a'), binary('image/png', 'a\n')],
}

for (const [name, [one, other]] of Object.entries(DIFFERENT)) {
  t.test(`an event with other content is a conflict: ${name}`, async (t) => {
    for (const [first, second] of [
      [one, other],
      [other, one],
    ] as const) {
      const id = newId()
      t.equal(await send(first, id), 'created')
      t.equal(await send(second, id), 'conflict', `${describe(first)}, then ${describe(second)}`)
    }
  })
}

t.test('what is stored stays as it was sent first', async (t) => {
  const first = binary('application/json; charset=utf-8', '{"a":1.0}', { count: '5' })
  for (const form of [first, structured({ datacontenttype: 'application/json', count: 5, data: { a: 1 } })])
    await send(form, 'first')
  const { body } = await app.inject({
    url: `/v1/records/${encodeURIComponent(required.source)}/first`,
    headers: { authorization: `Bearer ${key}` },
  })
  for (const part of ['"datacontenttype":"application/json; charset=utf-8"', '"count": "5"', '"data":{"a":1.0}'])
    t.ok(body.includes(part), part)
})
