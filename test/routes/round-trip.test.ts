import { join } from 'node:path'
import t from 'tap'
import { runCommand } from '../helpers/command.ts'
import { folderOf, load, start, waitForEnd, write } from '../helpers/load.ts'

/** The members of records that are hard to write in one of the formats, as JSON text. */
const MEMBERS: Record<string, string> = {
  'no data': '',
  'data null': '"data":null',
  'data ""': '"data":""',
  'data " "': '"data":" "',
  'data {}': '"data":{}',
  'data []': '"data":[]',
  'data false': '"data":false',
  'data 0': '"data":-0',
  'many digits': '"data":[12345678901234567890,0.1000000000000000055,1E+5,1.50]',
  'order of keys': '"data":{"b":1,"a":2,"10":3,"9":4}',
  'a repeated key': '"data":{"a":1,"a":2}',
  'a repeated key on several lines': '"data":{"a":1,\r\n\t"a":2\r}',
  'line breaks between values': '"data":[\n1]',
  'a line break before the end': '"data":[1\r\n]',
  'only carriage returns': '"data":[\r1\r]',
  'line breaks in text': '"data":"a\\r\\nb\\nc\\u000d\\u2028\u2028\u2029\u0085"',
  'control characters in text': '"data":"\\u0001\\u001f\\u007f\u007f\\t"',
  'quotes and commas': '"data":{"\\"a,b\\"":"\\"\\",\\"","c;d":"\'"}',
  'a formula': '"data":"=1+1","subject":"=cmd|\' /C calc\'!A0","x":"@SUM(A1)"',
  'a byte order mark': '"data":"\\ufeff","subject":"\ufeff"',
  'no bytes': '"data_base64":""',
  'one byte': '"data_base64":"AA=="',
  'bytes with their type': '"data_base64":"AAH/","datacontenttype":"image/png"',
  'text with its type': '"data":"a","datacontenttype":"text/plain; charset=\\"utf-8\\""',
  'JSON with its type': '"data":1,"datacontenttype":"application/json"',
  'all attributes':
    '"subject":"s","dataschema":"https://example.com/s?a=1#b","time":"2026-01-31T12:00:00.123456+02:00"',
  'an early time': '"time":"0001-01-01T00:00:00.000001Z"',
  'a late time': '"time":"9999-12-31T23:59:59.999999Z"',
  extensions: '"a":"","b":true,"c":false,"d":-2147483648,"e":"12","f":"null","g":" x ","h":"\\"{}"',
  'names of columns as extensions':
    '"extensions":"e","constructor":"c","proto":"p","row":1,"cursors":"c","next":"n","records":"r"',
  'a trace': '"traceparent":"00-00000000000000000000000000000001-0000000000000001-01","tracestate":"a=b"',
  'absent members':
    '"subject":null,"time":null,"dataschema":null,"datacontenttype":null,"extensions":null,"cursor":null,"receivedAt":null',
}

/** Ids, as text. */
const IDS = [
  ' ',
  ' a ',
  '"',
  '"a"',
  "'",
  ',',
  ';',
  '=1+1',
  '+1',
  '-1',
  '@a',
  '%',
  '%2F',
  'a/b',
  '..',
  'null',
  '\\',
  '\ufeffa',
]
IDS.push(
  '\u2028',
  'ä',
  'a\u0308',
  '😀',
  '#',
  '?',
  '0',
  '00',
  '1e5',
  '12345678901234567890',
  'true',
  '{',
  '[]',
  '<b>',
  '`',
  '\u00a0',
)

const ATTRIBUTES = '"source":"round/trip?a=%20#b","type":"t, \\"u\\""'
const texts = [
  ...Object.entries(MEMBERS).map(
    ([name, members]) => `{${ATTRIBUTES},"id":${JSON.stringify(name)}${members && `,${members}`}}`,
  ),
  ...IDS.map((id) => `{${ATTRIBUTES},"id":${JSON.stringify(id)},"data":${JSON.stringify(id)}}`),
  // The server makes its id.
  `{${ATTRIBUTES}}`,
]

const server = await start(t)
const { post, get, key, url } = server
const stored = await post(`[${texts.join()}]`)
t.match(stored.json.counts, { created: texts.length }, 'every record can be stored')

const ALL = { created: 0, duplicate: texts.length, conflict: 0, rejected: 0 }
const NDJSON = { 'content-type': 'application/x-ndjson' }

t.test('every record that is read alone can be posted, and is a duplicate', async (t) => {
  for (const { source, id } of stored.json.results) {
    const path = id === '..' ? '' : `/v1/records/${encodeURIComponent(source)}/${encodeURIComponent(id)}`
    for (const accept of ['application/json', 'application/cloudevents+json']) {
      if (path === '') continue
      const { text } = await get(path, { accept })
      t.match(
        (await post(text, { 'content-type': accept })).json.results,
        [{ status: 'duplicate' }],
        `${id}, ${accept}`,
      )
      const line = await post(text.replaceAll(/[\r\n]/g, ' '), NDJSON)
      t.match(line.json.counts, { duplicate: 1 }, `${id}, as a line`)
    }
  }
})

t.test('an export and a page can be posted as they are', async (t) => {
  t.match((await post((await get('/v1/records', { accept: NDJSON['content-type'] })).text, NDJSON)).json.counts, ALL)
  const page = await get('/v1/records?limit=1000')
  t.match((await post(page.text)).json.counts, ALL)
  const batch = 'application/cloudevents-batch+json'
  const events = await get('/v1/records?limit=1000', { accept: batch })
  t.match((await post(events.text, { 'content-type': batch })).json.counts, ALL)
})

t.test('sluice load stores nothing new from an export or a page, in any format', async (t) => {
  for (const name of ['all.csv', 'all.ndjson', 'all.csv.gz']) {
    const path = join(folderOf(t), name)
    const env = { SLUICE_URL: url, SLUICE_KEY: key }
    t.match(await waitForEnd(runCommand(t, ['export', '--output', path], env)), { code: 0 })
    const again = await load(t, server, [path])
    t.match(again, { code: 0, counts: ALL }, `${name}: ${again.stderr}`)
  }
  const page = await write(t, 'page.json', (await get('/v1/records?limit=1000')).text)
  const again = await load(t, server, [page])
  t.match(again, { code: 0, counts: ALL }, again.stderr)
})

// What the server adds made such a record too large to be sent back.
t.test('the largest records can be sent back as well, and a record that was not read may not be larger', async (t) => {
  const server = await start(t)
  const { post, get } = server
  const MiB = 1024 * 1024
  /** A record of exactly `bytes` bytes with `members` members. */
  const recordOf = (source: string, members: number, bytes: number) => {
    const names = Array.from({ length: members - 3 }, (_, n) => `"x${n}":"",`).join('')
    const [begin, end] = [`{"source":"${source}","type":"t",${names}"data":"`, '"}']
    return `${begin}${'x'.repeat(bytes - begin.length - end.length)}${end}`
  }
  const key = { 'idempotency-key': 'k'.repeat(200) }
  for (const [source, members, bytes] of [
    ['large', 4, MiB],
    ['many', 1000, 20_000],
    ['both', 1000, MiB],
  ] as const) {
    t.equal((await post(recordOf(source, members, bytes), key)).status, 201, source)
    const [{ id }] = (await get(`/v1/records?source=${source}`)).json.records
    const { text } = await get(`/v1/records/${source}/${id}`)
    t.match((await post(text)).json.results, [{ status: 'duplicate' }], source)
    t.match((await post(text, NDJSON)).json.counts, { duplicate: 1 }, `${source}, as a line`)
  }
  const page = await get('/v1/records')
  t.ok(page.text.length > 2 * MiB)
  t.match((await post(page.text)).json.counts, { duplicate: 3 })
  t.match(await load(t, server, [await write(t, 'page.json', page.text)]), { code: 0, counts: { duplicate: 3 } })
  const csv = await get('/v1/records', { accept: 'text/csv' })
  t.match(await load(t, server, [await write(t, 'all.csv', csv.text)]), { code: 0, counts: { duplicate: 3 } })

  const { cursor } = page.json.records[0]
  const more = (text: string, added: string) => text.replace('"type"', `"cursor":"${added}","type"`)
  for (const [name, text] of [
    ['one byte more', recordOf('large', 4, MiB + 1)],
    ['a false cursor', more(recordOf('large', 4, MiB), `B${cursor.slice(1)}`)],
    ['much more than the server adds', more(recordOf('large', 4, MiB + 5000), cursor)],
  ] as const) {
    t.match(await post(text), { status: 413 }, name)
    t.match((await post(`[${text}]`)).json, { code: 'record_too_large' }, `${name}, in a batch`)
    t.match((await post(text, NDJSON)).json.rejections, [{ code: 'record_too_large' }], `${name}, as a line`)
  }
  t.match((await post(recordOf('many', 1001, 20_000))).json, { code: 'too_complex' })
  t.match((await post(more(recordOf('many', 1006, 20_000), cursor))).json, { code: 'too_complex' })
})

t.test(
  'a page with white space or sorted members is read too, and an object that only begins like a page is not',
  async (t) => {
    const { records } = (await get('/v1/records?limit=2')).json
    for (const page of [
      JSON.stringify({ records, next: null }, null, 2),
      JSON.stringify({ next: records[0].cursor, records }),
      JSON.stringify({ records, next: null, count: 2 }),
      JSON.stringify({ count: 2, next: null, records }),
      JSON.stringify({ count: 2, records, next: null }),
      `\ufeff ${JSON.stringify({ records })}\n`,
    ]) {
      t.match((await post(page)).json.counts, { duplicate: 2 }, page.slice(0, 20))
    }
    const all = JSON.stringify(records)
    for (const [body, code] of [
      [`{"records":${all},"next":null`, 'invalid_json'],
      [`{"records":${all},"next":null}x`, 'invalid_json'],
      [`{"records":${all.slice(0, -2)}`, 'invalid_json'],
      [`{"records":${all},"total":2}`, 'wrong_type'],
      [`{"records":${all}"next":null}`, 'invalid_json'],
      [`{"records":{},"next":null}`, 'wrong_type'],
    ] as const) {
      t.match((await post(body)).json, { code }, body.slice(-30))
    }
    t.match((await post('{"records":[],"next":null}')).json.results, [])
    t.match((await post('{"records":"r","next":"n","source":"s","type":"t","id":"not a page"}')).json.counts, {
      created: 1,
    })
  },
)
