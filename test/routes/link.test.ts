import t from 'tap'
import { createApp } from '../helpers/app.ts'

const { get, post } = await createApp(t)
const long = 'ä'.repeat(600)
await post([1, 2].map((n) => ({ source: 'shop', type: 't', id: String(n), data: { long } })))

const BATCH = { accept: 'application/cloudevents-batch+json' }

/** The target of the header Link. */
const targetOf = (link: unknown): string => /^<(.*)>; rel="next"$/.exec(String(link))?.[1] ?? 'none'

t.test('the header Link leads to the next page', async (t) => {
  const first = await get('/v1/records?limit=1&type=t&source=shop')
  t.match(first, { status: 200, json: { records: [{ id: '2' }], next: /./ } })
  const last = await get(targetOf(first.headers.link))
  t.match(last, { status: 200, json: { records: [{ id: '1' }], next: null } })
  t.notOk('link' in last.headers)
})

// nginx keeps the headers of a response in one buffer of 4 or 8 KiB, and responds with 502 if they do not fit.
t.test('a page with `next` has no header Link that is longer than 2048 bytes', async (t) => {
  for (const [text, hasLink] of [
    [long.slice(0, 10), true],
    [long, false],
  ] as const) {
    await post({ source: 'other', type: 't', data: { text } })
    await post({ source: 'other', type: 't', data: { text } })
    const filter = `limit=1&data=${encodeURIComponent(JSON.stringify({ text }))}`
    const page = await get(`/v1/records?${filter}`)
    t.match(page, { status: 200, json: { next: /./ } })
    t.equal('link' in page.headers, hasLink)
    t.equal((await get(`/v1/records?${filter}&cursor=${page.json.next}`)).json.records.length, 1)
  }
})

t.test('a page of CloudEvents has no `next`, so it always has the header Link', async (t) => {
  const filter = `limit=1&data=${encodeURIComponent(JSON.stringify({ long }))}`
  const first = await get(`/v1/records?${filter}`, BATCH)
  t.match(first, { status: 200, json: [{ id: '2' }] })
  t.ok(String(first.headers.link).length > 2048)
  t.match((await get(targetOf(first.headers.link), BATCH)).json, [{ id: '1' }])
})
