import t from 'tap'
import { openBrowser, openConsole } from '../helpers/browser.ts'
import { start } from '../helpers/load.ts'
import { missing } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

const HTML = '<img src=x onerror="document.title=1">'

t.test('what people do', { skip: missing('chromium') }, async (t) => {
  const server = await start(t)
  const browser = await openBrowser(t)
  const data = '{"total": 12.50, "big": 1e400, "twice": 1, "twice": 2, "2": true, "1": [], "text": "\\u00e9 \\"{,"}'
  const record = `{"source":"shop","type":"order.placed","id":"1001","subject":"a b","data":${data}}`
  t.equal((await server.post(record)).status, 201)

  t.test('did 1001 land? The record is shown as it was received', async (t) => {
    const { page, faults } = await openConsole(browser, server.url, server.key)
    await page.click('nav >> text=Records')
    await page.fill('input[name=source]', 'shop')
    await page.fill('input[name=id]', '1001')
    await page.press('input[name=id]', 'Enter')
    await page.click('tbody >> text=1001')
    await page.waitForSelector('pre')
    const shown = await page.textContent('pre')
    t.equal(
      shown,
      [
        '{',
        '  "total": 12.50,',
        '  "big": 1e400,',
        '  "twice": 1,',
        '  "twice": 2,',
        '  "2": true,',
        '  "1": [],',
        '  "text": "\\u00e9 \\"{,"',
        '}',
      ].join('\n'),
    )
    t.match(await page.textContent('.attributes'), /shop.*1001.*order\.placed/s)
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write'])
    const copied = () => page.evaluate('navigator.clipboard.readText()').then(String)
    await page.click('text=Copy as JSON')
    await page.waitForSelector('#said >> text=Copied.')
    t.match(await copied(), data)
    await page.click('text=Copy as curl')
    await until('the other copy', async () => (await copied()).startsWith('curl'))
    t.equal(
      await copied(),
      `curl -sS '${server.url}/v1/records?source=shop&id=1001&limit=1' -H "Authorization: Bearer $SLUICE_KEY"`,
    )
    t.same(faults, [])
  })

  t.test('a search by subject, type or data finds the records that match, and no others', async (t) => {
    for (const [id, type, subject, data] of [
      ['apple', 'fruit.picked', 'tree 1', { color: 'red', weight: { grams: 150 } }],
      ['pear', 'fruit.picked', 'tree 2', { color: 'green', weight: { grams: 150 } }],
      ['carrot', 'vegetable.pulled', 'bed', { color: 'orange', weight: { grams: 60 } }],
    ] as const)
      t.equal((await server.post({ source: 'garden', type, id, subject, data })).status, 201)
    const { page, faults, goTo } = await openConsole(browser, server.url, server.key)
    const found = async (label: string, text: string) => {
      await goTo('#/records')
      await page.getByLabel(label, { exact: true }).fill(text)
      // Until the response comes, the old rows are gone and the page is loading.
      const isAnswer = (url: URL) => url.pathname === '/v1/records' && [...url.searchParams.values()].includes(text)
      await Promise.all([
        page.waitForResponse((response) => isAnswer(new URL(response.url()))),
        page.click('button:has-text("Search")'),
      ])
      await page.waitForSelector('.loading', { state: 'detached' })
      return page.locator('tbody a').allTextContents()
    }
    t.same(await found('Subject', 'tree 2'), ['pear'])
    t.same(await found('Type', 'fruit.picked'), ['pear', 'apple'])
    t.same(await found('Data contains', '{"weight": {"grams": 150}}'), ['pear', 'apple'])
    t.same(await found('Data contains', '{"weight": {"grams": 150}, "color": "red"}'), ['apple'])
    t.same(await found('JSON path', '$.weight.grams < 100'), ['carrot'])
    t.same(await found('Type', 'fruit'), [], 'a part of a type is another type')
    t.equal(await page.textContent('.empty'), 'No record matches these filters.')
    t.same(faults, [])
  })

  t.test('what does not exist is said in a sentence', async (t) => {
    const { page, faults, goTo } = await openConsole(browser, server.url, server.key, { expected: [400] })
    await goTo('#/record?source=shop&id=1002')
    t.match(
      await page.textContent('[role=alert]'),
      /There is no record 1002 of the source shop that this key may read\./,
    )
    await goTo('#/records?jsonpath=$$')
    t.match(await page.textContent('[role=alert]'), /jsonpath/)
    await goTo('#/live?sourcePrefix=%00')
    await page.waitForSelector('text=Stopped.')
    t.match(await page.textContent('[role=alert]'), /sourcePrefix/)
    await goTo('#/nowhere')
    await page.waitForSelector('text=Records per second')
    t.same(faults, [])
  })

  t.test('text that looks like HTML stays text, in every field and on every page', async (t) => {
    const strange = {
      source: 'urn:%3Cimg%20src=x%20onerror=1%3E',
      type: `${HTML}type`,
      id: `${HTML}id`,
      subject: `${HTML}subject`,
      extension: `${HTML}extension`,
      data: { [`${HTML}name`]: `${HTML}value` },
    }
    t.equal((await server.post({ ...strange, source: HTML })).status, 422, 'a source is a URI, which cannot hold HTML')
    const { page, faults, goTo } = await openConsole(browser, server.url, server.key, { expected: [400] })
    await goTo('#/live')
    await page.waitForSelector('text=Following the feed')
    t.equal((await server.post(strange)).status, 201)
    await page.waitForSelector('tbody tr')
    const { id: keyId } = await server.makeKey({
      scopes: ['read'],
      name: `${HTML}key`,
      sourcePrefixes: [`${HTML}prefix`],
    })
    await until(
      'the statistics',
      async () => (await server.get(`/v1/stats?type=${encodeURIComponent(strange.type)}`)).json.buckets.length > 0,
    )

    const shows = async (where: string, ...texts: string[]) => {
      const shown = (await page.textContent('body')) ?? ''
      for (const text of texts)
        t.ok(shown.includes(text) || shown.includes(JSON.stringify(text)), `${text} is shown ${where}`)
      t.equal(await page.locator('img').count(), 0, where)
    }
    const { source, type, id, subject, extension } = strange
    await shows('live', source, type, id, `${HTML}name`, `${HTML}value`)
    await goTo('#/records')
    await shows('in the list', source, type, id, subject)
    await goTo(`#/record?${new URLSearchParams({ source, id })}`)
    await shows('as a record', source, type, id, subject, extension, `${HTML}name`, `${HTML}value`)
    await goTo(`#/record?${new URLSearchParams({ source: HTML, id: HTML })}`)
    await shows('if it does not exist', `There is no record ${HTML}`)
    await goTo('#/types')
    await shows('in the statistics', source, type)
    await goTo(`#/records?${new URLSearchParams({ nonsense: HTML })}`)
    await page.waitForSelector('[role=alert]')
    await goTo(`#/records?${new URLSearchParams({ [HTML]: '1' })}`)
    await page.waitForSelector('[role=alert]')
    await shows('in an error', HTML)
    await goTo('#/keys')
    await shows('in the list of keys', `${HTML}key`, `${HTML}prefix`)
    await page.click(`button[aria-label$="${keyId}"]`)
    await page.waitForSelector('dialog[open]')
    await shows('before a key is revoked', `${HTML}key`)
    t.not(await page.title(), '1')
    t.same(faults, [])
  })

  t.test('long texts do not make a page wider than a phone', async (t) => {
    const long = (of: string) => of.repeat(256).slice(0, 256)
    const strange = {
      source: long('s'),
      type: long('t'),
      id: long('i'),
      subject: long('b'),
      data: { [long('n')]: long('d') },
    }
    const look = { viewport: { width: 360, height: 740 } }
    const { page, faults, goTo, screenshot } = await openConsole(browser, server.url, server.key, { look })
    const fits = async (where: string) => {
      const overflow = Number(await page.evaluate('document.documentElement.scrollWidth - innerWidth'))
      t.ok(overflow <= 0, `${where} is ${overflow} pixels too wide`)
      await screenshot(`long-${where}`)
    }
    await goTo('#/live')
    await page.waitForSelector('text=Following the feed')
    t.equal((await server.post(strange)).status, 201)
    await page.waitForSelector('tbody tr')
    await fits('live')
    const { id } = await server.makeKey({
      scopes: ['read'],
      name: long('k').slice(0, 100),
      sourcePrefixes: [long('p')],
    })
    await until(
      'the statistics',
      async () => (await server.get(`/v1/stats?type=${strange.type}`)).json.buckets.length > 0,
    )
    await goTo(`#/records?${new URLSearchParams({ source: strange.source })}`)
    await page.waitForSelector('tbody tr')
    await fits('records')
    await goTo(`#/record?${new URLSearchParams({ source: strange.source, id: strange.id })}`)
    await page.waitForSelector('pre')
    await fits('record')
    await goTo('#/types')
    await page.waitForSelector('time-plot canvas')
    await fits('types')
    await goTo('#/keys')
    await page.click(`button[aria-label$="${id}"]`)
    await page.waitForSelector('dialog[open]')
    await fits('keys')
    t.same(faults, [])
  })

  t.test('the feed appears as it comes, also what came during a pause', async (t) => {
    const { page, faults, goTo } = await openConsole(browser, server.url, server.key)
    await goTo('#/live?source=live')
    await page.waitForSelector('text=Following the feed')
    await server.post({ source: 'other', type: 't', id: 'no' })
    await server.post({ source: 'live', type: 't', id: 'first', data: { price: 1.0 } })
    await page.waitForSelector('tbody >> text=first')
    await page.click('text=Pause')
    await page.waitForSelector('text=Paused')
    await server.post({ source: 'live', type: 't', id: 'second' })
    await page.click('text=Continue')
    await page.waitForSelector('tbody >> text=second')
    t.same(
      await page.locator('tbody a').allTextContents(),
      ['second', 'first'],
      'newest first, without the other source',
    )

    await page.fill('input[name=source]', 'chosen')
    await page.fill('input[name=type]', 'yes')
    await Promise.all([page.waitForRequest(/\/v1\/feed\?.*source=chosen/), page.click('button:has-text("Filter")')])
    await page.waitForSelector('text=Following the feed')
    await server.post({ source: 'other', type: 'yes', id: 'another source' })
    await server.post({ source: 'chosen', type: 'no', id: 'another type' })
    await server.post({ source: 'chosen', type: 'yes', id: 'a match' })
    await page.waitForSelector('tbody >> text=a match')
    t.same(await page.locator('tbody a').allTextContents(), ['a match'])
    t.same(faults, [])
  })

  t.test('what came during a pause appears, even if nothing had come before', async (t) => {
    const { page, faults, goTo } = await openConsole(browser, server.url, server.key)
    await goTo('#/live?source=quiet')
    await page.waitForSelector('text=Following the feed')
    await page.click('text=Pause')
    await page.waitForSelector('text=Paused')
    await server.post({ source: 'quiet', type: 't', id: 'meanwhile' })
    await page.click('text=Continue')
    await page.waitForSelector('tbody >> text=meanwhile')
    t.same(faults, [])
  })

  t.test('many records come by pages, one each second, and none is missed', async (t) => {
    const { page, faults, goTo } = await openConsole(browser, server.url, server.key)
    await goTo('#/live?source=many')
    await page.waitForSelector('text=Following the feed')
    await page.click('text=Pause')
    await server.post(Array.from({ length: 250 }, (_, index) => ({ source: 'many', type: 't', id: String(index) })))
    await page.evaluate('performance.clearResourceTimings()')
    await page.click('text=Continue')
    await page.waitForSelector('text=250 records since')
    t.same((await page.locator('tbody a').allTextContents()).slice(0, 3), ['249', '248', '247'])
    const entries = (await page.evaluate(
      'performance.getEntriesByType("resource").map(({ name, startTime }) => [name, startTime])',
    )) as [string, number][]
    const begun = entries.filter(([name]) => name.includes('/v1/feed')).map(([, at]) => at)
    const pauses = begun.slice(1).map((at, index) => at - Number(begun[index]))
    t.ok(pauses.length >= 2 && pauses.every((pause) => pause > 900), `pauses of ${pauses.map(Math.round)} ms`)
    t.same(faults, [])
  })

  t.test('whoever is far behind can skip to the newest', async (t) => {
    const { page, faults, goTo } = await openConsole(browser, server.url, server.key)
    await goTo('#/live?source=late')
    await page.waitForSelector('text=Following the feed')
    await page.click('text=Pause')
    const records = Array.from({ length: 1000 }, (_, index) => ({ source: 'late', type: 't', id: `old-${index}` }))
    await server.post(records)
    // As if an hour had passed.
    await page.route('**/v1/feed*', async (route) => {
      const response = await route.fetch()
      const date = new Date(Date.now() + 3_600_000).toUTCString()
      await route.fulfill({ response, headers: { ...response.headers(), date } })
    })
    await page.click('text=Continue')
    await page.waitForSelector('text=Behind the feed')
    await page.click('text=Skip to the newest')
    await page.waitForSelector('text=Following the feed')
    await server.post({ source: 'late', type: 't', id: 'new' })
    await page.waitForSelector('tbody >> text=new')
    t.notOk(await page.isVisible('tbody >> text=old-999'))
    await page.unrouteAll({ behavior: 'ignoreErrors' })
    t.same(faults, [])
  })

  t.test('a tab in the background does not follow, and continues where it was', async (t) => {
    const { page, faults, goTo } = await openConsole(browser, server.url, server.key)
    await goTo('#/live?source=hidden')
    await page.waitForSelector('text=Following the feed')
    const hide = (hidden: boolean) =>
      page.evaluate(`Object.defineProperty(document, 'hidden', { value: ${hidden}, configurable: true })
        document.dispatchEvent(new Event('visibilitychange'))`)
    await hide(true)
    await page.waitForSelector('text=Paused')
    await server.post({ source: 'hidden', type: 't', id: 'unseen' })
    await hide(false)
    await page.waitForSelector('tbody >> text=unseen')
    t.same(faults, [])
  })

  t.test('a key is created, shown once, used and revoked', async (t) => {
    const { page, faults, goTo, inaccessible } = await openConsole(browser, server.url, server.key)
    await goTo('#/keys')
    await page.fill('input[name=name]', 'from the console')
    await page.check('input[value=ingest]')
    await page.fill('textarea', 'shop\n\nother ')
    await page.fill('input[name=days]', '90')
    await page.click('button:has-text("Create")')
    const token = (await page.textContent('.token')) ?? ''
    const answer = await server.post({ source: 'shop', type: 't' }, { authorization: `Bearer ${token}` })
    t.equal(answer.status, 201)
    await page.waitForSelector('tbody >> text=from the console')
    t.same(await inaccessible(), [], 'the token')
    await page.click('text=I have stored it')
    await page.waitForSelector('.token', { state: 'detached' })
    t.notOk((await page.content()).includes(token))

    await page.click('button[aria-label^="Revoke from the console"]')
    // axe-core does not ask for the name of a <dialog>.
    t.ok(await page.getByRole('dialog', { name: 'Revoke from the console?' }).isVisible())
    t.same(await inaccessible(), [], 'the dialog')
    await page.click('dialog >> text=Keep it')
    await page.waitForSelector('dialog', { state: 'detached' })
    await page.click('button[aria-label^="Revoke from the console"]')
    await page.click('dialog button:has-text("Revoke")')
    await page.waitForSelector('tr:has-text("from the console") >> text=revoked')
    t.same(faults, [])
  })

  t.test('times are in UTC or in the zone of the browser, by one switch', async (t) => {
    const look = { timezoneId: 'Asia/Kolkata' }
    const { page, faults, goTo } = await openConsole(browser, server.url, server.key, { look })
    await goTo('#/records?source=shop&id=1001')
    const [{ receivedAt }] = (await server.get('/v1/records?source=shop&id=1001')).json.records
    t.equal(await page.textContent('tbody time'), receivedAt.replace('T', ' ').replace('Z', ''))
    await page.click('text=Times: UTC')
    await page.waitForSelector('text=Times: Asia')
    const later = new Date(Date.parse(receivedAt) + 5.5 * 3_600_000).toISOString().slice(0, 19).replace('T', ' ')
    t.match(await page.textContent('tbody time'), later)

    const minute = later.slice(0, 16).replace(' ', 'T')
    await page.fill('input[name=receivedFrom]', `${minute}:00`)
    await page.click('button:has-text("Search")')
    await page.waitForURL(/receivedFrom/)
    const query = new URLSearchParams(new URL(page.url()).hash.split('?')[1])
    t.equal(query.get('receivedFrom'), `${receivedAt.slice(0, 16)}:00.000Z`)
    await page.waitForSelector('tbody >> text=1001')
    await page.click('text=Times: Asia')
    t.equal(await page.inputValue('input[name=receivedFrom]'), receivedAt.slice(0, 16))
    t.same(faults, [])
  })

  t.test('by keyboard: past the menu to the content, and a page is announced', async (t) => {
    const { page, faults } = await openConsole(browser, server.url, server.key)
    await page.keyboard.press('Tab')
    for (
      let presses = 0;
      (await page.evaluate('document.activeElement.className')) !== 'skip' && presses < 40;
      presses++
    )
      await page.keyboard.press('Shift+Tab')
    await page.keyboard.press('Enter')
    t.equal(await page.evaluate('document.activeElement.tagName'), 'H1')
    await page.focus('nav >> text=Keys')
    await page.keyboard.press('Enter')
    await page.waitForSelector('text=Create a key')
    t.equal(await page.evaluate('document.activeElement.textContent'), 'Keys')
    t.equal(await page.title(), 'Keys – Sluice')
    t.same(faults, [])
  })
})
