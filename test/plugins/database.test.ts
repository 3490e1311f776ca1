import t from 'tap'
import { createApp } from '../helpers/app.ts'

t.test(
  'with DATABASE_READ_URL lists and exports are asked of that server, and everything else of the primary',
  async (t) => {
    // Nobody listens on port 1: what is asked there fails.
    const { post, get } = await createApp(t, { DATABASE_READ_URL: 'postgres://nobody@127.0.0.1:1/sluice' })

    t.equal((await post({ source: 'shop', type: 't', id: '1' })).status, 201)
    t.equal((await get('/v1/records/shop/1')).status, 200)

    const list = await get('/v1/records')
    t.equal(list.status, 503)
    t.match(list.json, { code: 'database_unavailable', retryable: true })
    t.equal((await get('/v1/records', { accept: 'application/x-ndjson' })).status, 503)
  },
)
