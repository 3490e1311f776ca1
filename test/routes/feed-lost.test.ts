import t from 'tap'
import { beginEpoch } from '../../src/data/epochs.ts'
import { decodeOffset, encodeOffset, type Position } from '../../src/lib/offset.ts'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { isProblem } from '../helpers/problem.ts'
import { until } from '../helpers/until.ts'

const { database, get, post } = await createApp(t)
const NDJSON = { accept: 'application/x-ndjson' }

const headOf = async () => (await get('/v1/feed?offset=now')).headers['stream-next-offset'] as string
const store = async (id: string) => (await post({ source: 's', type: 't', id })).json.results[0].cursor as string
/** Waits until a record is in the feed: a transaction of another database may hold it back for an instant. */
const untilHead = (offset: string) => until('the head', async () => (await headOf()) === offset)

// The watcher found a lost offset between two records in its memory, so a live reader continued from it and missed records.
t.test('an offset of a lost history is refused in every form of the feed', async (t) => {
  await untilHead(await store('before'))
  // The watcher begins here, so everything that follows is in its memory.
  t.equal((await get('/v1/feed?live=long-poll&offset=now&timeout=0')).status, 204)
  const position = decodeOffset(await store('known')) as Position
  const lost = encodeOffset({ ...position, xid: String(BigInt(position.xid) + 1000n) })
  const owner = connect(database.ownerUrl)
  await beginEpoch(owner as never, position.epoch).finally(() => owner.destroy())
  const after = await store('after')
  await untilHead(after)
  const page = await get(`/v1/feed?live=long-poll&timeout=60&offset=${encodeOffset(position)}`)
  t.match(page.json, [{ id: 'after' }], 'the watcher has read it')

  for (const [query, headers] of [
    ['', {}],
    ['&limit=1', {}],
    ['&source=none', {}],
    ['&live=long-poll', {}],
    ['&live=long-poll&timeout=0', {}],
    ['&live=long-poll&source=none', {}],
    ['&live=sse', {}],
    ['&live=sse&source=none', {}],
    ['', NDJSON],
    ['&source=none', NDJSON],
    ['&live=true', NDJSON],
  ] as const) {
    const name = `${query} ${JSON.stringify(headers)}`
    isProblem(t, await get(`/v1/feed?offset=${lost}${query}`, headers), 'offset_ahead', { name })
  }
  isProblem(t, await get('/v1/feed?live=sse&offset=now', { 'last-event-id': lost }), 'offset_ahead')
})
