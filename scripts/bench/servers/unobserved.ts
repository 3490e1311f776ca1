import { registerHooks } from 'node:module'
import { serve } from './serve.ts'

// Sluice without metrics and log, to measure what these two cost. No setting turns metrics off, so no-metrics.ts replaces their
// plugin. The remaining metrics are updated once per flush, not per request.
const STAND_IN = new URL('no-metrics.ts', import.meta.url).href
registerHooks({
  resolve: (specifier, context, next) =>
    next(specifier.endsWith('/plugins/metrics.ts') ? STAND_IN : specifier, context),
})
const { buildApp } = await import('../../../src/app.ts')
const { loadConfig } = await import('../../../src/config.ts')
const { createLogger } = await import('../../../src/logger.ts')
await serve(await buildApp(loadConfig(), createLogger('silent')))
