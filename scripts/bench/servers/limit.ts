import { bareServer } from './bare.ts'
import { serve } from './serve.ts'

// The limit: what Fastify, this schema and this body allow on this machine, with a database that takes no time.
await serve(bareServer((records) => records.map(() => true)))
