import { execFileSync } from 'node:child_process'
import { type Browser, chromium } from 'playwright-core'

/** No sandbox, because root has none, and no requests of its own. */
const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** Starts the Chromium that is on the PATH: none is downloaded. @throws Error if there is none */
export async function startChromium(): Promise<Browser> {
  const path = execFileSync('sh', ['-c', 'command -v chromium || true'], { encoding: 'utf8' }).trim()
  if (path === '') throw new Error('chromium is missing: install the package chromium')
  return chromium.launch({ executablePath: path, args: ARGS })
}
