import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'

const { app, post, key } = await createApp(t)

const BYTES = Buffer.from([0, 1, 255, 10])
await post([
  { source: 'p', type: 't', id: 'png', datacontenttype: 'image/png', data_base64: BYTES.toString('base64') },
  { source: 'p', type: 't', id: 'bytes', data_base64: BYTES.toString('base64') },
  { source: 'p', type: 't', id: 'none', data_base64: '' },
  { source: 'p', type: 't', id: 'xml', datacontenttype: 'Text/XML; charset=utf-8', data: '<a>\u00e9</a>' },
  { source: 'p', type: 't', id: 'odd', datacontenttype: 'text/plain; x="\u{1f980}"', data: 'text' },
  { source: 'p', type: 't', id: 'long', datacontenttype: `text/plain; x="${'y'.repeat(60_000)}"`, data: 'text' },
  { source: 'p', type: 't', id: 'longer', datacontenttype: `text/${'y'.repeat(60_000)}`, data: 'text' },
  { source: 'p', type: 't', id: 'csv', datacontenttype: 'text/csv', data: { not: 'text' } },
  { source: 'p', type: 't', id: 'suffix', datacontenttype: 'application/problem+json', data: 'a JSON string' },
  { source: 'p', type: 't', id: 'json', data: { a: 1 } },
])
const read = (id: string, accept: string) =>
  app.inject({ url: `/v1/records/p/${id}`, headers: { authorization: `Bearer ${key}`, accept } })

t.test('with its own media type in Accept, a record is its payload alone', async (t) => {
  for (const [id, accept, type, payload] of [
    ['png', 'image/png', 'image/png', BYTES],
    ['png', 'image/*, application/json;q=0.5', 'image/png', BYTES],
    ['bytes', 'application/octet-stream', 'application/octet-stream', BYTES],
    ['none', 'application/octet-stream', 'application/octet-stream', Buffer.alloc(0)],
    ['xml', 'text/xml', 'Text/XML; charset=utf-8', Buffer.from('<a>\u00e9</a>')],
    ['odd', 'text/plain', 'text/plain', Buffer.from('text')],
    // Neither clients nor proxies accept a header of this size.
    ['long', 'text/plain', 'text/plain', Buffer.from('text')],
    ['longer', 'application/octet-stream', 'application/octet-stream', Buffer.from('text')],
    ['csv', 'text/csv', 'text/csv', Buffer.from('{"not":"text"}')],
    ['suffix', 'application/problem+json', 'application/problem+json', Buffer.from('"a JSON string"')],
  ] as const) {
    const { statusCode, headers, rawPayload } = await read(id, accept)
    t.equal(statusCode, 200, `${id}: ${accept}`)
    t.equal(headers['content-type'], type)
    t.same(rawPayload, payload, `${id}: ${accept}`)
    // A sender could otherwise store a page with a script, and a reader's browser would run it as a part of this server.
    t.match(headers, {
      'content-disposition': 'attachment',
      'content-security-policy': 'sandbox',
      'x-content-type-options': 'nosniff',
    })
  }
})

t.test('any other Accept returns the record, or is refused with the types that there are', async (t) => {
  for (const [id, accept] of [
    ['png', '*/*'],
    ['png', 'application/*'],
    ['png', 'image/png;q=0.5, application/json'],
    ['json', 'application/json'],
  ] as const) {
    const { headers, json } = await read(id, accept)
    t.match(headers['content-type'], 'application/json', `${id}: ${accept}`)
    t.notOk('content-disposition' in headers)
    t.equal(json().id, id)
  }
  const refused = await read('png', 'image/gif')
  isProblem(t, { status: refused.statusCode, headers: refused.headers, json: refused.json() }, 'not_acceptable')
  t.match(refused.json().detail, 'image/png')
})
