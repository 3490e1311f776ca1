import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { fileURLToPath } from 'node:url'

// Loaded before the API (node --import), so that it uses COPY from the first flush on. By default, it uses COPY only after 10,000
// new rows in succession, and with clients that compete for the same records it would never get that far. Nothing else changes.
const COPIES_AFTER = /^const FRESH_ROWS = 10_000$/m

registerHooks({
  load(url, context, next) {
    if (!url.endsWith('/src/data/copy-gate.ts')) return next(url, context)
    const source = readFileSync(fileURLToPath(url), 'utf8')
    if (!COPIES_AFTER.test(source))
      throw new Error(`${url} has no ${COPIES_AFTER.source}: change scripts/durability/copying.ts`)
    return {
      format: 'module-typescript',
      source: source.replace(COPIES_AFTER, 'const FRESH_ROWS = 0'),
      shortCircuit: true,
    }
  },
})
