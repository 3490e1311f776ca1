import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { VERSION } from '../../src/lib/version.ts'
import type { StatusDocument } from '../../src/schemas/status.ts'
import { assess } from '../../src/status/assess.ts'
import { createApp } from '../helpers/app.ts'
import { openBrowser, openConsole } from '../helpers/browser.ts'
import { connect } from '../helpers/connect.ts'
import { CREATE } from '../helpers/consumers-api.ts'
import { createSafeDatabase } from '../helpers/own-server.ts'
import { missing } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

const HOUR_MS = 3_600_000

t.test('the overview', { skip: missing('chromium') }, async (t) => {
  const { url, key, status } = await startWithBudget(t)
  const browser = await openBrowser(t)

  t.test('everything is well', async (t) => {
    const { page, faults, inaccessible, screenshot } = await openConsole(browser, url, key)
    await page.waitForSelector('meter')
    t.equal(await page.innerText('.health'), '● Everything is well')
    t.equal(await page.locator('.findings').count(), 0)
    const cards = await readCards(page)
    for (const [name, card] of Object.entries({
      Database: '● OK available',
      'Waiting requests': `● OK none on ${status.instance.name}`,
      Storage:
        /^● OK [\d.]+ [MG]B of 10 GB \([\d.]+ %\) full on \d{4}-\d\d-\d\d if it grows as it did in the last (day|week)$/,
      Instances: `● OK 2, version ${VERSION}`,
      Statistics: '● OK up to date',
      Feed: '● OK up to date',
      Consumers: /^● OK 1; slow is 2 records behind \(\d.*\)$/,
      Backup: '● OK succeeded 3 h ago',
      'Upload of backups': '○ Not known has not run',
      'Restore drill': '● OK succeeded 20 h ago',
      Retention: '○ Not known has not run',
    }))
      t.match(cards[name], card, name)
    await page.click('summary:has-text("version")')
    t.ok((await page.innerText('.cards details ul')).includes(`${status.instance.name}: ${VERSION}`))
    t.same(await inaccessible(), [])
    await screenshot('overview-ok')
    t.same(faults, [])
  })

  /** Opens the overview of a server in another state. */
  async function show(t: Test, change: (facts: StatusDocument) => void) {
    const facts = structuredClone(status)
    change(facts)
    const findings = assess(facts)
    const document = { ...facts, findings, health: findings[0]?.level ?? 'ok' }
    const view = await openConsole(browser, url, undefined)
    const { page } = view
    await page.route('**/v1/status', (route) => route.fulfill({ json: document }))
    await page.fill('#key', key)
    await page.click('button[type=submit]')
    await page.waitForSelector('.cards')
    await page.waitForSelector('time-plot canvas')
    t.same(await view.inaccessible(), [])
    await view.screenshot(`overview-${document.health}`)
    const seen = {
      health: await page.innerText('.health'),
      findings: (await page.locator('.findings li').allInnerTexts()).map((text) => text.slice(0, 30)),
      cards: await readCards(page),
      meters: await page
        .locator('meter')
        .evaluateAll((all) => all.map((meter) => [meter.value, meter.high, meter.max])),
    }
    await page.unrouteAll({ behavior: 'ignoreErrors' })
    t.same(view.faults, [])
    return seen
  }

  t.test('warnings', async (t) => {
    const { health, findings, cards, meters } = await show(t, ({ at, instance, instances, storage, consumers }) => {
      Object.assign(instance, { waitingRequests: 3, oldestWaitingSeconds: 7.25 })
      Object.assign(instances?.[0] ?? {}, { version: '0.9.0' })
      Object.assign(storage ?? {}, {
        usedBytes: 8.5e9,
        fullAt: new Date(Date.parse(at) + 48 * HOUR_MS).toISOString(),
        growth: 'day',
      })
      Object.assign(consumers?.[0] ?? {}, { records: 12_345, seconds: 7_500 })
    })
    t.equal(health, '▲ Warning')
    t.same(
      findings.map((text) => text.slice(0, 9)),
      ['▲ Warning', '▲ Warning', '▲ Warning'],
    )
    t.match(cards, {
      Database: '● OK available',
      'Waiting requests': `▲ Warning 3 on ${status.instance.name}, the oldest for 7.3 s`,
      Storage: /^▲ Warning 8\.5 GB of 10 GB \(85 %\) full on \d{4}-\d\d-\d\d if it grows as it did in the last day$/,
      Instances: `● OK 2, version 0.9.0 and ${VERSION}`,
      Consumers: '▲ Warning 1; slow is 12,345 records behind (2 h)',
    })
    t.same(meters, [[8.5e9, 8e9, 1e10]])
  })

  t.test('critical findings come first', async (t) => {
    const { health, findings, cards, meters } = await show(t, ({ at, database, storage, consumers, jobs }) => {
      Object.assign(database, { available: false, outageSeconds: 130 })
      Object.assign(storage ?? {}, { usedBytes: 9.2e9, full: true })
      Object.assign(consumers?.[0] ?? {}, { overtakenAt: at, seconds: 7_500 })
      for (const job of jobs ?? []) Object.assign(job, { succeeded: false, succeededAt: null })
    })
    t.equal(health, '■ Critical')
    t.match(findings[0], /^■ Critical /)
    t.match(findings.at(-1), /^▲ Warning /)
    t.match(cards, {
      Database: '■ Critical unavailable for 2 min',
      Storage: '■ Critical 9.2 GB of 10 GB (92 %) full: records are refused',
      Consumers: /^■ Critical /,
      Backup: '■ Critical failed 3 h ago, last success: never',
      'Restore drill': '■ Critical failed 20 h ago, last success: never',
    })
    t.same(meters, [[9.2e9, 8e9, 1e10]])
  })

  t.test('what is not known is not OK', async (t) => {
    const { cards, meters } = await show(t, (facts) => {
      Object.assign(facts, { instances: null, consumers: null, consumerCount: null, jobs: null })
      Object.assign(facts.storage ?? {}, { usedBytes: null, fullAt: null })
      facts.feed.heldSeconds = null
      Object.assign(facts.statistics ?? {}, { lagSeconds: null })
    })
    for (const [name, card] of Object.entries(cards))
      if (name !== 'Database' && name !== 'Waiting requests') t.match(card, /^○ Not known/, name)
    t.same(meters, [])
  })
})

/** A server with a storage budget, a history of storage, a backup, a drill, and a consumer that is behind. */
async function startWithBudget(t: Test) {
  // With settings that break a guarantee, it would not be well.
  const database = await createSafeDatabase(t)
  const budget = { STORAGE_BUDGET: '10GB' }
  const first = await createApp(t, budget, database)
  await first.app.ready()
  const used = await until('the first measurement', () => first.app.storage.usedBytes)
  const root = connect(database.superUrl)
  t.teardown(() => root.destroy())
  await sql`
    INSERT INTO sluice.storage_history (hour, used_bytes)
    SELECT date_trunc('hour', now()) - make_interval(hours => hour), ${used}::float8 - hour * 20e6::float8
    FROM generate_series(0, 100) AS hour
    ON CONFLICT (hour) DO UPDATE SET used_bytes = excluded.used_bytes`.execute(root)
  await sql`
    INSERT INTO sluice.jobs (job, finished_at, succeeded, succeeded_at, seconds, figures, totals)
    SELECT job, finished_at, true, finished_at, 1, '{}', '{}'
    FROM (VALUES ('backup', now() - interval '3 hours'), ('restore_drill', now() - interval '20 hours')) AS runs (job, finished_at)`.execute(
    root,
  )
  const server = await createApp(t, budget, database)
  const url = await server.app.listen({ host: '127.0.0.1', port: 0 })
  const { statusCode } = await server.app.inject({
    method: 'PUT',
    url: '/v1/consumers/slow',
    headers: { authorization: `Bearer ${server.key}`, 'content-type': 'application/json', ...CREATE },
    payload: '{"offset":"-1"}',
  })
  t.ok(statusCode < 300, 'the consumer exists')
  for (const id of ['1', '2']) await server.post({ source: 's', type: 't', id })
  const status = await until('everything to be known and well', async () => {
    const { json } = await server.get('/v1/status')
    const { health, instances, storage, statistics, consumers } = json as StatusDocument
    const isKnown = storage?.fullAt != null && statistics?.lagSeconds != null && instances?.length === 2
    return health === 'ok' && isKnown && consumers?.[0]?.records === 2 && (json as StatusDocument)
  })
  return { url, key: server.key, status }
}

/** The level and the text of each card, by its name. */
async function readCards(page: Awaited<ReturnType<typeof openConsole>>['page']): Promise<Record<string, string>> {
  const cards = await page.locator('.cards > div').all()
  const entries = cards.map(async (card) => [
    await card.locator('dt').innerText(),
    (await card.locator('dd').allInnerTexts()).join(' ').replaceAll(/\s+/g, ' ').trim(),
  ])
  return Object.fromEntries(await Promise.all(entries))
}
