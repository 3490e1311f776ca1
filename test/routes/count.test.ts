import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'

const { post, get } = await createApp(t)

await post(['1', '2', '3', '4'].map((id) => ({ source: 'f', type: 't', id })))

t.test('count=true counts the records of all pages', async (t) => {
  const { json } = await get('/v1/records?source=f&limit=1&count=true')
  t.match(json, { count: 4, records: { length: 1 } })
  t.equal((await get(`/v1/records?source=f&limit=1&count=true&cursor=${json.next}`)).json.count, 4)
  t.equal((await get('/v1/records?source=nobody&count=true')).json.count, 0)
  t.equal((await get('/v1/records?source=f&order=asc&type=t&count=true')).json.count, 4)
  t.notOk('count' in (await get('/v1/records?source=f&count=false')).json)
  t.equal((await get('/v1/records?source=f&count=false', { accept: 'text/csv' })).status, 200)
  for (const accept of ['text/csv', 'application/x-ndjson', 'application/cloudevents-batch+json'])
    isProblem(t, await get('/v1/records?source=f&count=true', { accept }), 'invalid_query')
})
