import { readFileSync } from 'node:fs'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { scrape } from '../helpers/scrape.ts'

t.test('with DATABASE_READ_URL, lists and exports use that server, and everything else the primary', async (t) => {
  // Nothing listens on port 1: requests that use it fail.
  const { post, get } = await createApp(t, { DATABASE_READ_URL: 'postgres://nobody@127.0.0.1:1/sluice' })

  t.equal((await post({ source: 'shop', type: 't', id: '1' })).status, 201)
  t.equal((await get('/v1/records/shop/1')).status, 200)

  const list = await get('/v1/records')
  t.equal(list.status, 503)
  t.match(list.json, { code: 'database_unavailable', retryable: true })
  t.equal((await get('/v1/records', { accept: 'application/x-ndjson' })).status, 503)
})

t.test('the connections of all instances that a rolling update runs at once fit into max_connections', async (t) => {
  const { value } = await scrape((await createApp(t)).app)
  const pools = ['write', 'read', 'keys', 'list', 'feed', 'watch'] as const
  const most = pools.reduce((sum, pool) => sum + (value('sluice_pool_max_connections', { pool }) as number), 0)
  const numberIn = (path: string, pattern: RegExp) =>
    Number(pattern.exec(readFileSync(new URL(`../../k8s/${path}`, import.meta.url), 'utf8'))?.[1])
  const instances = numberIn('base/api.yaml', /replicas: (\d+)/) + numberIn('base/api.yaml', /maxSurge: (\d+)/)
  // For the superuser (superuser_reserved_connections), the jobs, and people.
  const others = 3 + 6
  const max = numberIn('components/postgres/postgresql.conf', /^max_connections = (\d+)/m)
  t.ok(instances * most + others <= max, `${instances} x ${most} + ${others} of ${max}`)
})
