import type { Browser, Page } from 'playwright-core'

/**
 * Opens the console in a browser that has nothing in its cache, and waits for the form that asks for the key.
 * @param hash of the page that follows
 */
export async function openForm(browser: Browser, port: number, hash = ''): Promise<Page> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } })
  const page = await context.newPage()
  await page.goto(`http://127.0.0.1:${port}/console/${hash}`)
  await page.waitForSelector('#key')
  return page
}

export async function enterKey(page: Page, key: string): Promise<void> {
  await page.fill('#key', key)
  await page.click('button[type=submit]')
}
