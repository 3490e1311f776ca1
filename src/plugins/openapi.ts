import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { Problem } from '../lib/problems.ts'
import { VERSION } from '../lib/version.ts'
import { PageSchema } from '../schemas/list.ts'
import { FaultSchema, ProblemSchema } from '../schemas/problem.ts'
import { RecordInputSchema, RecordSchema } from '../schemas/record.ts'
import { CountsSchema, LinesReportSchema, ResultSchema, ResultsSchema } from '../schemas/results.ts'

/** Answers at once that need no key and are not small: each holds some 128 KiB until it is taken. A browser asks for five. */
const MOST_READERS = 64
/** Nobody who takes a byte now and then keeps the place of another one. */
const LONGEST_READING_MS = 60_000

/** /openapi.json, made from the routes' schemas, and a page at /docs that reads it; both without a key. */
export default fp(async function openapi(app: FastifyInstance) {
  for (const schema of [
    FaultSchema,
    ProblemSchema,
    RecordInputSchema,
    RecordSchema,
    CountsSchema,
    ResultSchema,
    ResultsSchema,
    LinesReportSchema,
    PageSchema,
  ]) {
    app.addSchema(schema)
  }
  let readers = 0
  app.decorate('boundReaders', (_request, reply, done) => {
    if (readers >= MOST_READERS)
      throw new Problem('overloaded', 'Too many clients read the description of the API at once. Ask again later.')
    readers++
    const cut = setTimeout(() => reply.raw.destroy(), LONGEST_READING_MS).unref()
    reply.onceTaken(() => {
      clearTimeout(cut)
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
        description: 'Durable ingestion for PostgreSQL: an answer of 2xx means committed, and sending again is safe.',
      },
      components: { securitySchemes: { key: { type: 'http', scheme: 'bearer', description: 'An API key' } } },
    },
    // The names of the components: their $id.
    refResolver: { buildLocalReference: (json, _base, _fragment, index) => String(json.$id ?? `schema-${index}`) },
  })
  // Serves its own copy of Swagger UI: works without internet, and under a strict policy.
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    uiHooks: { onRequest: app.boundReaders as never },
    staticCSP: true,
    uiConfig: { validatorUrl: null, tryItOutEnabled: true },
    // Without the bar on top, which shows other documents under the sign of the library.
    theme: { title: 'Sluice', css: [{ filename: 'theme.css', content: '.topbar { display: none }' }] },
  })
})

declare module 'fastify' {
  interface FastifyInstance {
    /** `onRequest` of what needs no key and is not small. */
    boundReaders: onRequestHookHandler
  }
}
