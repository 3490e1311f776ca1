import t from 'tap'
import { recordJobRun, selectJobs } from '../../src/data/jobs.ts'
import { connect } from '../../src/postgres/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

const { ownerUrl } = await createDatabase(t)
const db = connect({ url: ownerUrl, name: 'test', connections: 1, statementTimeoutMs: 0, onError: () => {} })
t.teardown(() => db.destroy())

t.test('a job that never ran is not listed', async (t) => {
  t.same(await selectJobs(db), [])
})

t.test('a run replaces the previous one, adds its totals, and keeps the time of the last success', async (t) => {
  await recordJobRun(db, { job: 'backup', succeeded: true, seconds: 2.5, figures: { bytes: 100 }, totals: { runs: 1 } })
  const [first] = await selectJobs(db)
  t.match(first, { succeeded: true, seconds: 2.5, figures: { bytes: 100 }, totals: { runs: 1 } })
  t.equal(first?.succeededAt, first?.finishedAt)
  t.ok(Math.abs((first?.finishedAt as number) - Date.now() / 1000) < 60, 'seconds since 1970')

  await recordJobRun(db, { job: 'backup', succeeded: false, seconds: 1, figures: {}, totals: { runs: 1, failures: 1 } })
  const [second] = await selectJobs(db)
  t.match(second, { succeeded: false, figures: {}, totals: { runs: 2, failures: 1 }, succeededAt: first?.succeededAt })
  t.ok((second?.finishedAt as number) >= (first?.finishedAt as number))
})

t.test('a job that has only failed has no time of success', async (t) => {
  await recordJobRun(db, { job: 'retention', succeeded: false, seconds: 1, figures: {}, totals: {} })
  t.match((await selectJobs(db)).at(-1), { job: 'retention', succeeded: false, succeededAt: null })
})
