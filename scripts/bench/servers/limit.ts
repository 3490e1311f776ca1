import { bareServer } from './bare.ts'
import { serve } from './serve.ts'

// The limit of Fastify with this schema and this body on this machine: nothing is stored.
await serve(bareServer((records) => records.map(() => true)))
