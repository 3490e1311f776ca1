import { type Static, Type } from '@sinclair/typebox'
import Fastify, { type FastifyInstance } from 'fastify'
import { FORMATS } from '../../../src/schemas/formats.ts'
import { CodeSchema, CountsSchema, FaultSchema } from '../../../src/schemas/problem.ts'
import { RecordInputSchema } from '../../../src/schemas/record.ts'
import { ResultSchema, ResultsSchema } from '../../../src/schemas/results.ts'

export type RecordInput = Static<typeof RecordInputSchema>

/** Has the length of a real cursor. */
const CURSOR = 'AAAAAQAAAAAAAAL8AAAAAAAAAAAAAAAA'

/**
 * The simplest server: Fastify checks the body against the schema of Sluice and serializes the response with its schema. There are no
 * keys and no log.
 * @param store returns for each record whether it was created
 */
export function bareServer(store: (records: RecordInput[]) => boolean[] | Promise<boolean[]>): FastifyInstance {
  const formats = Object.fromEntries(Object.entries(FORMATS).map(([name, { test }]) => [name, test]))
  const app = Fastify({ ajv: { customOptions: { formats } } })
  for (const schema of [CodeSchema, RecordInputSchema, FaultSchema, ResultSchema, CountsSchema, ResultsSchema])
    app.addSchema(schema)

  const body = Type.Union([Type.Ref(RecordInputSchema), Type.Array(Type.Ref(RecordInputSchema))])
  const response = { 200: Type.Ref(ResultsSchema), 201: Type.Ref(ResultsSchema) }
  app.post<{ Body: Static<typeof body> }>('/v1/records', { schema: { body, response } }, async (request, reply) => {
    const records = Array.isArray(request.body) ? request.body : [request.body]
    const created = await store(records)
    const count = created.filter(Boolean).length
    reply.code(count > 0 ? 201 : 200)
    return {
      counts: { created: count, duplicate: records.length - count, conflict: 0, rejected: 0 },
      results: records.map(({ source, id }, index) => ({
        index,
        source,
        id,
        status: created[index] ? 'created' : 'duplicate',
        cursor: CURSOR,
      })),
    }
  })
  return app
}
