import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { VERSION } from '../lib/version.ts'
import { Problem } from '../problems.ts'
import {
  ConsumerListSchema,
  ConsumerRequestSchema,
  ConsumerSchema,
  StoredConsumerSchema,
} from '../schemas/consumers.ts'
import { toStandard } from '../schemas/document.ts'
import { KeyListSchema, KeyRequestSchema, KeySchema, NewKeySchema } from '../schemas/keys.ts'
import { PageSchema } from '../schemas/list.ts'
import { CodeSchema, CountsSchema, FaultSchema, ProblemSchema } from '../schemas/problem.ts'
import { RecordInputSchema, RecordSchema } from '../schemas/record.ts'
import { ResultSchema, ResultsSchema } from '../schemas/results.ts'
import { StatsSchema } from '../schemas/stats.ts'
import { StatusSchema } from '../schemas/status.ts'

/**
 * How many large responses that need no key may be sent at once. Each holds about 128 KiB until its reader has taken it. A
 * browser requests five.
 */
const MAX_READERS = 64
/** A slow reader does not block others for longer than this. */
const MAX_READING_MS = 60_000

/**
 * Not that of the library: it allows another host, and `upgrade-insecure-requests` leaves the page blank over http from any host but
 * this machine. Swagger UI needs inline styles, and images in data: URLs.
 */
const CONTENT_SECURITY_POLICY =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'self'; object-src 'none'; frame-ancestors 'self'"

/** /openapi.json, made from the routes' schemas, and a page at /docs that reads it; both without a key. */
export default fp(async function openapi(app: FastifyInstance) {
  for (const schema of [
    CodeSchema,
    FaultSchema,
    ProblemSchema,
    RecordInputSchema,
    RecordSchema,
    CountsSchema,
    ResultSchema,
    ResultsSchema,
    PageSchema,
    ConsumerRequestSchema,
    StoredConsumerSchema,
    ConsumerSchema,
    ConsumerListSchema,
    KeyRequestSchema,
    KeySchema,
    NewKeySchema,
    KeyListSchema,
    StatsSchema,
    StatusSchema,
  ]) {
    app.addSchema(schema)
  }
  let readers = 0
  app.decorate('limitReaders', (_request, reply, done) => {
    if (readers >= MAX_READERS)
      throw new Problem('overloaded', 'Too many clients are reading the description of the API. Try again later.')
    readers++
    const timer = setTimeout(() => reply.raw.destroy(), MAX_READING_MS).unref()
    reply.onceTaken(() => {
      clearTimeout(timer)
      readers--
    })
    done()
  })
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Sluice',
        version: VERSION,
        license: { name: 'MIT' },
        description:
          'Durable ingestion for PostgreSQL: 2xx means committed, and a record with an id is stored once, however often it is sent.',
      },
      tags: [
        { name: 'ingest', description: 'Store records' },
        { name: 'read', description: 'Search and read them' },
        { name: 'stats', description: 'How many records came in, and when' },
        { name: 'status', description: 'Whether everything is well' },
        { name: 'consumers', description: 'Store how far a consumer has read the feed' },
        { name: 'keys', description: 'Manage API keys' },
        { name: 'health', description: 'For probes; without a key' },
      ],
      components: { securitySchemes: { key: { type: 'http', scheme: 'bearer', description: 'An API key' } } },
    },
    transformObject: (made) => ({
      ...('openapiObject' in made && (toStandard(made.openapiObject) as object)),
      // Relative to the document: behind a proxy, the service may have a prefix that it does not know.
      servers: [{ url: app.pathPrefix || '.', description: 'This server' }],
    }),
    // Components are named by their $id.
    refResolver: { buildLocalReference: (json, _base, _fragment, index) => String(json.$id ?? `schema-${index}`) },
  })
  // Serves its own copy of Swagger UI: it works without internet, and under a strict content security policy.
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    uiHooks: { onRequest: app.limitReaders },
    // Below a path prefix, too.
    indexPrefix: '.',
    transformSpecificationClone: false,
    // This copy of the document is one folder deeper.
    transformSpecification: (document) => ({
      ...document,
      servers: [{ url: app.pathPrefix || '..', description: 'This server' }],
    }),
    staticCSP: CONTENT_SECURITY_POLICY,
    uiConfig: { validatorUrl: null, tryItOutEnabled: true },
    // Hides the top bar, which has the library's logo and a field for other documents.
    theme: { title: 'Sluice', css: [{ filename: 'theme.css', content: '.swagger-ui .topbar { display: none }' }] },
  })
})

declare module 'fastify' {
  interface FastifyInstance {
    /** `onRequest` of routes that need no key and have a large response. */
    limitReaders: onRequestHookHandler
  }
}
