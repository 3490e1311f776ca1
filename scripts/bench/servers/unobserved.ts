import { registerHooks } from 'node:module'
import { serve } from './serve.ts'

// Ours without its metrics and its log: what those two cost is the difference. No setting turns metrics off, so another
// plugin takes the place of theirs. What stays is measured once for a flush, not for a request.
const STAND_IN = new URL('no-metrics.ts', import.meta.url).href
registerHooks({
  resolve: (specifier, context, next) =>
    next(specifier.endsWith('/plugins/metrics.ts') ? STAND_IN : specifier, context),
})
const { buildApp } = await import('../../../src/app.ts')
const { loadConfig } = await import('../../../src/config.ts')
const { createLogger } = await import('../../../src/logger.ts')
await serve(await buildApp(loadConfig(), createLogger('silent')))
