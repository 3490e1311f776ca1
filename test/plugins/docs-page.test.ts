import { chromium } from 'playwright-core'
import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { forward, startStub } from '../helpers/proxy.ts'
import { missing, pathOf } from '../helpers/skipping.ts'
import { listen } from '../helpers/socket.ts'

/** Not a name of this machine: browsers treat http from there as secure, and hide what others would see. */
const HOST = 'sluice.example'

/** A proxy that serves `port` under /api/, as nginx does with `location /api/ { proxy_pass http://…/; }`. @returns its port */
async function openPrefix(t: Test, port: number): Promise<string> {
  const url = await startStub(t, async (request, response, body) => {
    const [, path] = /^\/api(\/.*)/.exec(request.url ?? '') ?? []
    if (path === undefined) return response.writeHead(404).end()
    request.url = path
    return (await forward(`http://127.0.0.1:${port}`, request, body))(response)
  })
  return new URL(url).port
}

// The page was blank over http from another host, asked for its files outside of the prefix, logged an error, and its example was 422.
t.test(
  'a person opens /docs below a path prefix over http, and executes the examples unchanged',
  { skip: missing('chromium') },
  async (t) => {
    const { app, key } = await createApp(t)
    const port = await openPrefix(t, await listen(app))
    const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking']
    const browser = await chromium.launch({
      executablePath: pathOf('chromium'),
      args: [...args, '--disable-component-update', '--disable-sync', `--host-resolver-rules=MAP ${HOST} 127.0.0.1`],
    })
    t.teardown(() => browser.close())
    const page = await browser.newPage()
    // The machine may be busy.
    page.setDefaultTimeout(120_000)
    const faults: string[] = []
    page.on('console', (message) => faults.push(message.text()))
    page.on('pageerror', (error) => faults.push(error.message))
    page.on('response', (response) => response.status() >= 400 && faults.push(`${response.status()} ${response.url()}`))

    await page.goto(`http://${HOST}:${port}/api/docs`)
    await page.click('.btn.authorize')
    await page.fill('.auth-container input', key)
    await page.click('.auth-btn-wrapper .authorize')
    await page.click('.auth-btn-wrapper .btn-done')
    const execute = async (operation: string): Promise<number> => {
      await page.click(`#operations-${operation} .opblock-summary-control`)
      const answer = page.waitForResponse((response) => response.url().includes('/v1/'))
      await page.click(`#operations-${operation} button.execute`)
      return (await answer).status()
    }
    t.equal(await execute('ingest-ingest'), 201)
    t.equal(await execute('read-getRecord'), 200)
    t.equal(await execute('read-listRecords'), 200)
    t.equal(await page.inputValue('#operations-read-listRecords input[placeholder=data]'), '', 'no filter is filled in')
    t.equal(await execute('keys-createKey'), 201)
    t.same(faults, [], 'the console is empty, and every file is found')
  },
)
