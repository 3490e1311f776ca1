import { buildApp } from '../../../src/app.ts'
import { loadConfig } from '../../../src/config.ts'
import { createLogger } from '../../../src/logger.ts'
import { serve } from './serve.ts'

// Ours: the server of `npm start` with everything on, its access log written to stdout.
const config = loadConfig()
await serve(await buildApp(config, createLogger(config.LOG_LEVEL)))
