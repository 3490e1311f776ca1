import type { Browser, Page } from 'playwright-core'
import { startServer } from '../servers/start.ts'
import { median, type Run, rounded, type TableRow } from '../table.ts'
import { enterKey, openForm } from './open.ts'

/** In each round. */
const OPENINGS = 5

const WAYS = ['form', 'first page', 'reloaded'] as const

/**
 * Measures how soon the browser paints the form for the key, with an empty cache; how soon the first page is complete once the key is
 * entered; and how soon it paints when it is reloaded.
 */
export async function measurePaint({ database, options }: Run, browser: Browser): Promise<TableRow[]> {
  const server = await startServer('ours', database, options.profile)
  const times: Record<(typeof WAYS)[number], number[]> = { form: [], 'first page': [], reloaded: [] }
  for (let opening = 0; opening < OPENINGS * options.rounds; opening++) {
    const page = await openForm(browser, server.port)
    times.form.push(await firstPaint(page))
    const begin = performance.now()
    await enterKey(page, database.key)
    await page.waitForSelector('.cards')
    await page.waitForSelector('time-plot canvas')
    times['first page'].push(performance.now() - begin)
    await page.reload()
    times.reloaded.push(await firstPaint(page))
    await page.context().close()
  }
  await server.child.stop()
  return WAYS.map((way) => ({
    name: `console ${way}`,
    p50_ms: rounded(median(times[way])),
    worst_ms: Math.round(Math.max(...times[way])),
    ratios: {},
  }))
}

/** The first contentful paint, in milliseconds since the navigation began (https://www.w3.org/TR/paint-timing/). */
async function firstPaint(page: Page): Promise<number> {
  const found = `new Promise((resolve) => {
    const observer = new PerformanceObserver((list) => {
      for (const { name, startTime } of list.getEntries()) if (name === 'first-contentful-paint') resolve(startTime)
    })
    observer.observe({ type: 'paint', buffered: true })
  })`
  return (await page.evaluate(found)) as number
}
