import { readdir } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { openBrowser, openConsole } from '../helpers/browser.ts'
import { start } from '../helpers/load.ts'
import { missing } from '../helpers/skipping.ts'
import { exchange, listen } from '../helpers/socket.ts'

const TYPES: Record<string, string> = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
}
const VENDORED = ['lit-html/lit-html.js', 'uplot/dist/uPlot.esm.js', 'uplot/dist/uPlot.min.css']

t.test('the files for browsers are served without a key, under a strict policy, and nothing else', async (t) => {
  const { app } = await createApp(t)
  const get = (path: string, headers: Record<string, string> = {}) => app.inject({ url: `/console/${path}`, headers })
  const own = await readdir(fileURLToPath(new URL('../../src/console', import.meta.url)), { recursive: true })
  for (const name of ['', ...own, ...VENDORED]) {
    const [, extension] = /\.(\w+)$/.exec(name || 'index.html') ?? []
    const type = TYPES[extension ?? '']
    const { statusCode, headers } = await get(name)
    t.equal(statusCode, type === undefined ? 404 : 200, name)
    if (type === undefined) continue
    t.match(headers, {
      'content-type': type,
      'content-security-policy':
        /^default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; (?!.*unsafe)/,
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
    })
  }
  for (const path of [
    'lit-html/package.json',
    'lit-html/node/lit-html.js',
    'uplot/README.md',
    'pages',
    'pages/',
    'constructor',
  ])
    t.equal((await get(path)).statusCode, 404, path)
  t.equal((await app.inject('/console')).headers.location, 'console/')

  const port = await listen(app)
  for (const path of ['../app.ts', '%2e%2e/app.ts', '..%2fapp.ts', 'pages/../../app.ts', '/../../package.json']) {
    const { status } = await exchange(port, `GET /console/${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
    t.equal(status, 404, path)
  }
})

t.test('compressed if the client accepts that, and only once for each version', async (t) => {
  const { app } = await createApp(t)
  const get = (headers: Record<string, string>) => app.inject({ url: '/console/app.js', headers })
  const { headers, rawPayload } = await get({ 'accept-encoding': 'br, gzip' })
  t.match(headers, { 'content-encoding': 'gzip', 'cache-control': 'no-cache', vary: 'accept-encoding' })
  for (const encoding of ['', 'identity', 'br', 'gzip;q=0']) {
    const plain = await get({ 'accept-encoding': encoding })
    t.equal(plain.headers['content-encoding'], undefined, encoding)
    t.ok(plain.rawPayload.length > rawPayload.length)
  }
  const again = await get({ 'if-none-match': String(headers.etag) })
  t.match(again, { statusCode: 304, payload: '' })
  t.equal((await app.inject({ method: 'HEAD', url: '/console/' })).statusCode, 200)
  t.equal((await app.inject({ method: 'POST', url: '/console/' })).statusCode, 405)
})

t.test('below a path prefix', async (t) => {
  const { app } = await createApp(t, { PATH_PREFIX: '/sluice' })
  t.equal((await app.inject('/sluice/console')).headers.location, '/sluice/console/')
  t.equal((await app.inject('/sluice/console/')).statusCode, 200)
})

t.test('the first page takes at most 120 kB', { skip: missing('chromium') }, async (t) => {
  const server = await start(t)
  const view = await openConsole(await openBrowser(t), server.url, server.key)
  await view.page.waitForSelector('time-plot canvas')
  const entries = "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
  const sizes = (await view.page.evaluate(`${entries}.map(({ name, transferSize }) => [name, transferSize])`)) as [
    string,
    number,
  ][]
  const sum = sizes.reduce((total, [, size]) => total + size, 0)
  t.comment(`${sum} bytes`)
  t.ok(sum > 20_000 && sum <= 120_000, `${sum} bytes: ${JSON.stringify(sizes)}`)
})
