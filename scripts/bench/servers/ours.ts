import { buildApp } from '../../../src/app.ts'
import { loadConfig } from '../../../src/config.ts'
import { createLogger } from '../../../src/logger.ts'
import { serve } from './serve.ts'

// Sluice with everything on, including the access log on stdout.
const config = loadConfig()
await serve(await buildApp(config, createLogger(config.LOG_LEVEL)))
