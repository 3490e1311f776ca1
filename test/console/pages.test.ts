import { sql } from 'kysely'
import t from 'tap'
import { store } from '../../scripts/demo/client.ts'
import { readDeliveries } from '../../scripts/demo/deliveries.ts'
import { type Look, openBrowser, openConsole } from '../helpers/browser.ts'
import { connect } from '../helpers/connect.ts'
import { CREATE } from '../helpers/consumers-api.ts'
import { start } from '../helpers/load.ts'
import { missing } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

/** Each page, and what is on it once it has loaded. */
const PAGES: Record<string, { hash: string; shows: string }> = {
  overview: { hash: '#/overview', shows: 'time-plot canvas' },
  'overview-day': { hash: '#/overview?range=day', shows: 'time-plot canvas' },
  'overview-week': { hash: '#/overview?range=week', shows: 'time-plot canvas' },
  records: { hash: '#/records?type=github.push', shows: 'tbody a' },
  nothing: { hash: '#/records?type=no.such', shows: '.empty' },
  live: { hash: '#/live', shows: 'text=Following the feed' },
  types: { hash: '#/types', shows: 'tbody a' },
  consumers: { hash: '#/consumers', shows: 'tbody th' },
  keys: { hash: '#/keys', shows: 'tbody th' },
}

const LOOKS: Record<string, Look> = {
  light: { colorScheme: 'light', viewport: { width: 1280, height: 900 } },
  dark: { colorScheme: 'dark', viewport: { width: 1280, height: 900 } },
  phone: { colorScheme: 'light', viewport: { width: 360, height: 740 } },
}

t.test('every page with the records of the demo', { skip: missing('chromium') }, async (t) => {
  const server = await start(t)
  const deliveries = readDeliveries()
  for (let at = 0; at < deliveries.length; at += 25)
    await store({ url: server.url, token: server.key }, deliveries.slice(at, at + 25))
  await server.app.inject({
    method: 'PUT',
    url: '/v1/consumers/shipper',
    headers: { authorization: `Bearer ${server.key}`, 'content-type': 'application/json', ...CREATE },
    payload: '{"offset":"-1"}',
  })
  const root = connect(server.database.superUrl)
  t.teardown(() => root.destroy())
  await sql`
    INSERT INTO sluice.jobs (job, finished_at, succeeded, succeeded_at, seconds, figures, totals)
    VALUES ('backup', now(), true, now(), 1, '{}', '{}'), ('restore_drill', now(), false, NULL, 1, '{}', '{}')`.execute(
    root,
  )
  await until('all records to be counted', async () => {
    const { json } = await server.get('/v1/stats')
    return json.buckets.reduce((sum: number, { records }: { records: number }) => sum + records, 0) > 300
  })
  const browser = await openBrowser(t)

  for (const [name, look] of Object.entries(LOOKS)) {
    t.test(`${name}: accessible, without an error, no wider than the window`, async (t) => {
      const view = await openConsole(browser, server.url, server.key, { look })
      for (const [title, { hash, shows }] of Object.entries(PAGES)) {
        await view.goTo(hash)
        await view.page.waitForSelector(shows)
        if (title === 'live') {
          await store(
            { url: server.url, token: server.key },
            deliveries.slice(0, 1).map((delivery) => ({ ...delivery, id: name })),
          )
          await view.page.waitForSelector('tbody tr')
        }
        t.same(await view.inaccessible(), [], title)
        const overflow = Number(await view.page.evaluate('document.documentElement.scrollWidth - innerWidth'))
        t.ok(overflow <= 0, `${title} is ${overflow} pixels too wide`)
        await view.screenshot(`${title}-${name}`)
      }
      await view.goTo('#/records?type=github.push')
      await view.page.click('tbody a')
      await view.page.waitForSelector('pre')
      t.same(await view.inaccessible(), [], 'record')
      await view.screenshot(`record-${name}`)
      t.same(view.faults, [])
    })
  }

  t.test('the key is asked for on an accessible page', async (t) => {
    const view = await openConsole(browser, server.url, undefined)
    t.same(await view.inaccessible(), [])
    await view.screenshot('key')
    t.same(view.faults, [])
  })

  t.test('a plot shows values where the pointer is, zooms, and has a table for those who do not see it', async (t) => {
    const { page, faults } = await openConsole(browser, server.url, server.key)
    await page.waitForSelector('time-plot canvas')
    t.match(
      await page.getAttribute('time-plot', 'aria-label'),
      /^Records per second by outcome, .* stored: at most [\d.]+ records\/s/,
    )
    const plot = page.locator('time-plot .u-over')
    const { width = 0, height = 0 } = (await plot.boundingBox()) ?? {}
    const pointAt = (share: number) => plot.hover({ position: { x: width * share, y: height / 2 } })
    /** The minute that the legend shows for the left edge. */
    const firstMinute = async () => {
      await pointAt(0.01)
      // The legend follows with the next picture.
      await page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))')
      return String(await page.textContent('.u-legend .u-value'))
    }
    const whole = await firstMinute()
    await pointAt(0.5)
    await page.mouse.down()
    await pointAt(0.75)
    await page.mouse.up()
    const zoomed = await firstMinute()
    t.ok(zoomed > whole, `${zoomed} is later than ${whole}`)
    await plot.dblclick()
    t.equal(await firstMinute(), whole)

    await page.click('summary:has-text("Values as a table")')
    await page.waitForSelector('details.values tbody tr')
    t.equal(await page.locator('details.values tbody tr').count(), 60)
    t.same(faults, [])
  })

  // Without this, the other tests would also pass if nothing were reported, or if there were no policy.
  t.test('what the policy forbids does not happen, and is a fault', async (t) => {
    const { page, faults } = await openConsole(browser, server.url, server.key)
    const add = (name: string, properties: object) =>
      `document.head.append(Object.assign(document.createElement('${name}'), ${JSON.stringify(properties)}))`
    for (const [what, attempt, said] of [
      ['an inline handler', "document.body.setAttribute('onclick', 'document.title = 1')", /TrustedScript/],
      ['HTML from text', "document.body.innerHTML = '<b>bold</b>'", /TrustedHTML/],
      ['an inline style', add('style', { textContent: 'p {}' }), /style-src/],
      ['an inline script', add('script', { textContent: 'document.title = 1' }), /Trusted|script-src/],
      ['an image of another server', add('img', { src: 'http://127.0.0.1:9/' }), /img-src|default-src/],
      ['a request to another server', "fetch('http://127.0.0.1:9/').catch(() => {})", /connect-src/],
    ] as const) {
      const before = faults.length
      await page.evaluate(`try { ${attempt} } catch {}`)
      const isReported = () => faults.slice(before).some((fault) => said.test(fault))
      t.ok(await until(`a fault because of ${what}`, isReported), what)
    }
    t.not(await page.title(), '1')
    t.equal(await page.locator('b').count(), 0)

    await page.evaluate(`setTimeout(() => { throw new Error('not caught') })`)
    t.ok(await until('the error', () => faults.some((fault) => /not caught/.test(fault))))
    await page.evaluate(`fetch('/v1/nowhere').then(() => {})`)
    t.ok(await until('the response', () => faults.some((fault) => /^40\d .*nowhere/.test(fault))))
  })
})

t.test(
  'types and sources have the share of the records that were rejected',
  { skip: missing('chromium') },
  async (t) => {
    const server = await start(t)
    const [first, second, third] = ['1', '2', '3'].map((id) => ({ source: 'shop', type: 'order.placed', id }))
    await server.post([first, second, third, { ...first, id: '4', time: 'yesterday' }])
    await server.post([first])
    await server.post({ source: 'bank', type: 'payment', id: '1' })
    await until('all to be counted', async () => {
      const { buckets } = (await server.get('/v1/stats')).json
      const sum = (count: string) =>
        buckets.reduce((total: number, bucket: Record<string, number>) => total + Number(bucket[count]), 0)
      return sum('records') === 4 && sum('duplicates') === 1 && sum('rejected') === 1
    })
    const { page, faults, goTo } = await openConsole(await openBrowser(t), server.url, server.key)
    await goTo('#/types')
    await page.waitForSelector('[aria-label=Sources] tbody tr')
    /** Name, records, duplicates, rejected, share. The payload is left out. */
    const rows = async (part: string) => {
      const found = await page.locator(`[aria-label=${part}] tbody tr`).all()
      const cells = await Promise.all(found.map((row) => row.locator('th, td').allInnerTexts()))
      return cells.map((row) => row.toSpliced(2, 1))
    }
    t.same(await rows('Types'), [
      ['order.placed', '3', '1', '1', '20 %'],
      ['payment', '1', '0', '0', '0 %'],
    ])
    t.same(await rows('Sources'), [
      ['shop', '3', '1', '1', '20 %'],
      ['bank', '1', '0', '0', '0 %'],
    ])
    await goTo('#/overview')
    await page.waitForSelector('text=4 stored, 1 duplicate, 1 rejected')
    t.same(faults, [])
  },
)
