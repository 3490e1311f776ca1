import { mkdir, readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { Browser, Page } from 'playwright-core'
import type { Test } from 'tap'
import { startChromium } from '../../scripts/chromium.ts'

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core'), 'utf8')

/** Ignored by git. */
const SCREENSHOTS = fileURLToPath(new URL('../../.sluice/screenshots', import.meta.url))

export async function openBrowser(t: Test): Promise<Browser> {
  const browser = await startChromium()
  t.teardown(() => browser.close())
  return browser
}

export interface Look {
  colorScheme?: 'light' | 'dark'
  viewport?: { width: number; height: number }
  timezoneId?: string
}

interface Violation {
  id: string
  nodes: { html: string; failureSummary: string }[]
}

interface Console {
  page: Page
  /** What the browser reported: errors, violations of the content security policy, and responses that were not expected. */
  faults: string[]
  /** Opens a page of the console, and waits until it has loaded. */
  goTo(hash: string): Promise<void>
  /** Faults of accessibility, as axe-core finds them. */
  inaccessible(): Promise<string[]>
  screenshot(name: string): Promise<void>
}

/**
 * Opens the console of the server at `url`, in a browser without any state.
 * @param key is typed in, unless it is undefined
 * @param expected statuses of responses that are no fault
 */
export async function openConsole(
  browser: Browser,
  url: string,
  key: string | undefined,
  { look = {}, expected = [] }: { look?: Look; expected?: number[] } = {},
): Promise<Console> {
  const context = await browser.newContext({ timezoneId: 'UTC', ...look })
  const page = await context.newPage()
  // The machine may be busy.
  page.setDefaultTimeout(120_000)
  const faults: string[] = []
  page.on('console', (entry) => {
    // Chromium logs each response with an error status. Those are checked below.
    if (entry.type() !== 'error' || !entry.text().startsWith('Failed to load resource')) faults.push(entry.text())
  })
  page.on('pageerror', ({ message }) => faults.push(message))
  page.on('response', (response) => {
    const status = response.status()
    if (status >= 400 && !expected.includes(status)) faults.push(`${status} ${response.url()}`)
  })
  await page.goto(`${url}/console/`)
  await page.waitForSelector('#key')
  if (key !== undefined) {
    await page.fill('#key', key)
    await page.click('button[type=submit]')
    await loaded(page)
  }
  return {
    page,
    faults,
    async goTo(hash) {
      await page.evaluate(goTo(hash))
      await loaded(page)
    },
    async inaccessible() {
      // Not as a script of the page: its policy forbids that.
      await page.evaluate(AXE)
      const { violations } = (await page.evaluate('axe.run()')) as { violations: Violation[] }
      return violations.flatMap(({ id, nodes }) =>
        nodes.map(({ html, failureSummary }) => `${id}: ${html}: ${failureSummary}`),
      )
    },
    async screenshot(name) {
      await mkdir(SCREENSHOTS, { recursive: true })
      await page.screenshot({ path: `${SCREENSHOTS}/${name}.png`, fullPage: true })
    },
  }
}

/** Resolves when the console has noticed that the fragment of the URL is another one. */
const goTo = (hash: string) => `new Promise((resolve) => {
  if (location.hash === ${JSON.stringify(hash)}) resolve()
  addEventListener('hashchange', () => resolve(), { once: true })
  location.hash = ${JSON.stringify(hash)}
})`

async function loaded(page: Page): Promise<void> {
  await page.waitForSelector('main h1')
  await page.waitForSelector('.loading', { state: 'detached' })
}
