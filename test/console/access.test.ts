import t from 'tap'
import { openNetwork } from '../../scripts/durability/proxy.ts'
import { createApp } from '../helpers/app.ts'
import { openBrowser, openConsole } from '../helpers/browser.ts'
import { start } from '../helpers/load.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { missing } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

/** What each page reads. */
const READS = { records: 'records', live: 'feed', types: 'stats', consumers: 'consumers', keys: 'keys' }

t.test('keys and outages', { skip: missing('chromium') }, async (t) => {
  const server = await start(t)
  await server.post({ source: 'shop/1', type: 't', id: '1' })
  const browser = await openBrowser(t)

  t.test('the key is in this tab only', async (t) => {
    const { page, faults, goTo } = await openConsole(browser, server.url, undefined)
    const requested: string[] = []
    page.on('request', (request) => requested.push(request.url()))
    await page.fill('#key', server.key)
    await page.click('button[type=submit]')
    await page.waitForSelector('.cards')
    // URLs are in the logs of proxies.
    for (const [name, path] of Object.entries(READS)) {
      await Promise.all([page.waitForRequest(`**/v1/${path}*`), goTo(`#/${name}`)])
      t.notOk(page.url().includes(server.key), name)
    }
    t.same(
      requested.filter((url) => url.includes(server.key)),
      [],
    )
    await goTo('#/overview')
    const stored = String(
      await page.evaluate('[document.cookie, JSON.stringify(localStorage), JSON.stringify(history.state)].join()'),
    )
    t.notOk(stored.includes(server.key))
    await page.reload()
    await page.waitForSelector('text=Records per second')
    const other = await page.context().newPage()
    await other.goto(`${server.url}/console/`)
    await other.waitForSelector('#key')

    await page.click('text=Forget the key')
    await page.waitForSelector('#key')
    await page.reload()
    await page.waitForSelector('#key')
    t.same(faults, [])
  })

  t.test('a key that is revoked ends the session, and the page says why', async (t) => {
    const { id, token } = await server.makeKey({ scopes: ['read', 'admin'] })
    const { page, faults, goTo } = await openConsole(browser, server.url, token, { expected: [401] })
    await goTo('#/keys')
    await page.click(`button[aria-label$="${id}"]`)
    await page.click('dialog button:has-text("Revoke")')
    await page.waitForSelector('#key')
    t.match(await page.textContent('[role=alert]'), /revoked/)
    t.equal(await page.evaluate('sessionStorage.length'), 0)
    t.same(faults, [])
  })

  t.test('a wrong key', async (t) => {
    const { page, faults } = await openConsole(browser, server.url, undefined, { expected: [401] })
    const said = async (key: string) => {
      await page.fill('#key', key)
      await page.click('button[type=submit]')
      await page.waitForSelector('[role=alert]')
      return page.textContent('[role=alert]')
    }
    t.match(await said('schlüssel'), /contains characters that no key has/)
    t.match(await said('nonsense'), /is not known/)
    t.equal(await page.evaluate('sessionStorage.length'), 0)
    t.same(faults, [])
  })

  t.test('a key without the scope gets a sentence on each page', async (t) => {
    const { token } = await server.makeKey({ scopes: ['ingest'] })
    const { page, faults, goTo } = await openConsole(browser, server.url, token, { expected: [403] })
    for (const [name, scope] of [
      ['overview', 'read'],
      ['records', 'read'],
      ['live', 'read'],
      ['types', 'read'],
      ['consumers', 'read'],
      ['keys', 'admin'],
    ]) {
      await goTo(`#/${name}`)
      await page.waitForSelector('[role=alert]')
      t.match(await page.textContent('[role=alert]'), new RegExp(`scope.* ${scope}`), String(name))
    }
    t.same(faults, [])
  })

  t.test('a key with source prefixes sees its records and statistics, and why there is no status', async (t) => {
    const { token } = await server.makeKey({ scopes: ['read'], sourcePrefixes: ['shop'] })
    const { page, faults, goTo } = await openConsole(browser, server.url, token, { expected: [403] })
    t.match(await page.textContent('[role=alert]'), /use a key without source prefixes/)
    await page.waitForSelector('time-plot canvas')
    await goTo('#/records')
    await page.waitForSelector('tbody >> text=shop/1')
    t.same(faults, [])
  })

  t.test('while the database is unavailable, each page says so, and the console goes on when it is back', async (t) => {
    const database = await createDatabase(t)
    const target = new URL(database.apiUrl)
    const network = await openNetwork({ host: target.hostname, port: Number(target.port) })
    t.teardown(() => network.close())
    target.host = `127.0.0.1:${network.port}`
    const own = await createApp(t, { DATABASE_URL: target.href, OUTAGE_HOLD_SECONDS: '120' }, database)
    const url = await own.app.listen({ host: '127.0.0.1', port: 0 })
    const { page, faults, goTo, inaccessible } = await openConsole(browser, url, own.key, { expected: [503] })
    await page.waitForSelector('text=Records per second')
    network.drop()
    const waiting = own.post({ source: 's', type: 't', id: 'during' })
    await page.waitForSelector('.findings >> text=The database has been unavailable')
    t.same(await inaccessible(), [], 'the overview')
    for (const name of ['live', 'types', 'consumers', 'keys', 'records']) {
      await goTo(`#/${name}`)
      await page.waitForSelector('[role=alert]')
      t.equal(await page.locator('.level.ok').count(), 0, name)
      t.same(await inaccessible(), [], name)
    }
    network.heal()
    t.equal((await waiting).status, 201)
    // The first attempts may get connections that were cut.
    const again = page.locator('button:has-text("Try again")')
    await until('the record that was stored during the outage', async () => {
      if (await again.isVisible()) await again.click()
      return page.isVisible('tbody >> text=during')
    })
    t.same(faults, [])
  })

  t.test('Live goes on after an interruption, and misses nothing', async (t) => {
    const { page, faults, goTo } = await openConsole(browser, server.url, server.key, { expected: [409] })
    await goTo('#/live?source=interrupted')
    await page.waitForSelector('text=Following the feed')
    const store = (id: string) => server.post({ source: 'interrupted', type: 't', id })
    await store('before')
    await page.waitForSelector('tbody >> text=before')
    await page.context().setOffline(true)
    await page.waitForSelector('text=Trying again')
    await store('during')
    await page.context().setOffline(false)
    await page.waitForSelector('text=Following the feed')
    await store('after')
    await page.waitForSelector('tbody >> text=after')
    t.same(await page.locator('tbody a').allTextContents(), ['after', 'during', 'before'])

    const problem = { status: 409, code: 'offset_ahead', detail: 'The offset is ahead of the feed.' }
    await page.route('**/v1/feed*', (route) => route.fulfill({ status: 409, json: problem }))
    await page.waitForSelector('text=press Continue')
    t.match(await page.textContent('[role=alert]'), problem.detail)
    await page.unroute('**/v1/feed*')
    await page.click('button:has-text("Continue")')
    await page.waitForSelector('text=Following the feed')
    await store('later')
    await page.waitForSelector('tbody >> text=later')
    t.same(faults, [])
  })

  t.test('if the last read failed, nothing is green', async (t) => {
    const { page, faults, goTo } = await openConsole(browser, server.url, server.key)
    const consumer = {
      name: 'copy',
      offset: '0',
      updatedAt: new Date().toISOString(),
      overtakenAt: null,
      lag: { records: 0, seconds: 0, isExact: true },
    }
    const storage = { usedBytes: 5e9, budgetBytes: 1e10, full: false, fullAt: null, growth: null }
    const status = { ...(await server.get('/v1/status')).json, health: 'ok', findings: [], storage }
    for (const { name, path, document, green } of [
      { name: 'consumers', path: 'consumers', document: { consumers: [consumer] }, green: ['td .level.ok'] },
      { name: 'keys', path: 'keys', document: undefined, green: ['td .level.ok'] },
      // Browsers draw a meter in green.
      { name: 'overview', path: 'status', document: status, green: ['.health .level.ok', '.cards .level.ok', 'meter'] },
    ]) {
      if (document !== undefined) await page.route(`**/v1/${path}`, (route) => route.fulfill({ json: document }))
      await goTo(`#/${name}`)
      for (const selector of green) await page.waitForSelector(selector)
      await page.route(`**/v1/${path}`, (route) => route.abort())
      await page.waitForSelector('[role=alert]')
      t.equal(await page.locator('.level.ok, meter').count(), 0, name)
      t.ok(await page.locator('tbody th, .cards dt').first().isVisible(), 'what was read before stays')
    }
    t.match(
      (await page.locator('.cards').innerText()).replaceAll(/\s+/g, ' '),
      /Storage ○ Not known 5 GB of 10 GB \(50 %\)/,
    )
    // A handler that still runs when the browser closes would fail.
    await page.unrouteAll({ behavior: 'ignoreErrors' })
    t.same(faults, [])
  })

  t.test('if the server is away, the page says so and shows what it knew', async (t) => {
    const own = await createApp(t)
    const url = await own.app.listen({ host: '127.0.0.1', port: 0 })
    const { page, faults, inaccessible } = await openConsole(browser, url, own.key)
    await page.waitForSelector('.cards')
    await own.app.close()
    await page.waitForSelector('text=The server does not respond')
    t.ok(await page.isVisible('.cards'))
    t.match(await page.textContent('.health'), /Not known/)
    t.same(await inaccessible(), [])
    // No response comes.
    await page.route('**/v1/**', () => {})
    await page.click('button:has-text("Try again")')
    await page.waitForSelector('button:has-text("Trying again")')
    t.match(await page.textContent('.health'), /Not known/)
    await page.unrouteAll({ behavior: 'ignoreErrors' })
    t.same(faults, [])
  })
})
