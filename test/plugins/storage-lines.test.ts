import t from 'tap'
import { createApp } from '../helpers/app.ts'

// The size is measured earlier after much was written, and a stream can write any amount in one request.
t.test('the lines of a stream count as written bytes', async (t) => {
  const { app, post } = await createApp(t)
  let bytes = 0
  app.storage.add = (more) => {
    bytes += more
  }
  const lines = Array.from({ length: 2500 }, (_, id) => `{"source":"s","type":"t","id":"${id}"}`)
  t.equal((await post(lines.join('\n'), { 'content-type': 'application/x-ndjson' })).status, 201)
  t.equal(bytes, lines.join('').length)
})
