import { setTimeout as sleep } from 'node:timers/promises'
import type { Browser } from 'playwright-core'
import { enterKey, openForm } from './open.ts'

/** A request of an open page. */
export interface PageRequest {
  /** After the page was opened, in milliseconds. */
  at: number
  method: string
  path: string
  accept: string
}

/** Opens a page of the console, and returns what it asks of the API in this time (in milliseconds). */
export async function recordRequests(
  browser: Browser,
  { port, key, hash, ms }: { port: number; key: string; hash: string; ms: number },
): Promise<PageRequest[]> {
  const page = await openForm(browser, port, hash)
  const found: PageRequest[] = []
  const begin = performance.now()
  page.on('request', (request) => {
    const { pathname, search } = new URL(request.url())
    const { accept = '*/*' } = request.headers()
    if (pathname.startsWith('/v1/'))
      found.push({ at: performance.now() - begin, method: request.method(), path: pathname + search, accept })
  })
  await enterKey(page, key)
  await sleep(ms)
  await page.context().close()
  return found
}
