import t from 'tap'
import { createApp } from '../helpers/app.ts'

const { app } = await createApp(t)

t.test('HEAD has the status of GET and no body', async (t) => {
  const answer = await app.inject({ method: 'HEAD', url: '/healthz' })
  t.equal(answer.statusCode, 200)
  t.equal(answer.body, '')
})

// If our own code fails after a commit, the problem must not say that nothing was written.
t.test('the outcome of a defect is unknown if the request may write, and not_written if it reads', async (t) => {
  const broken = await createApp(t)
  broken.app.writer.submit = () => {
    throw new TypeError('a defect')
  }
  const answer = await broken.post({ source: 's', type: 't' })
  t.match(answer, { status: 500, json: { code: 'internal_error', outcome: 'unknown' } })
  broken.app.semaphores.read.run = async () => {
    throw new TypeError('a defect')
  }
  t.match((await broken.get('/v1/records/s/1')).json, { code: 'internal_error', outcome: 'not_written' })
})
