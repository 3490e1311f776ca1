import t from 'tap'
import { createApp } from '../helpers/app.ts'

// The size is measured early where much was written. A stream writes as much as it likes in one request.
t.test('the lines of a stream count as written, chunk by chunk', async (t) => {
  const { app, post } = await createApp(t)
  let bytes = 0
  app.storage.add = (more) => {
    bytes += more
  }
  const lines = Array.from({ length: 2500 }, (_, id) => `{"source":"s","type":"t","id":"${id}"}`)
  t.equal((await post(lines.join('\n'), { 'content-type': 'application/x-ndjson' })).status, 201)
  t.equal(bytes, lines.join('').length)
})
