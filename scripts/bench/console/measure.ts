import { startChromium } from '../../chromium.ts'
import type { Outcome, Run } from '../table.ts'
import { comparePages } from './cost.ts'
import { measurePaint } from './paint.ts'

/** Measures how soon the console is there, and what ten open ones cost. */
export async function measureConsole(run: Run): Promise<Outcome> {
  const browser = await startChromium().catch((error: Error) => error)
  // The other measurements are not lost.
  if (browser instanceof Error) return { rows: [], faults: [browser.message] }
  try {
    const paint = await measurePaint(run, browser)
    const cost = await comparePages(run, browser)
    return { rows: [...paint, ...cost.rows], faults: cost.faults }
  } finally {
    await browser.close()
  }
}
