import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { Config } from '../config.ts'
import type { Key } from '../operate/keys.ts'
import { readPage, readRecord } from '../read/records.ts'
import { IdentitySchema, ListQuerySchema, PageSchema } from '../schemas/list.ts'
import { ProblemSchema } from '../schemas/problem.ts'
import { RecordSchema } from '../schemas/record.ts'

const problem = { description: 'Refused', content: { 'application/problem+json': { schema: Type.Ref(ProblemSchema) } } }
const common = { tags: ['read'], security: [{ key: [] }] }

/** GET /v1/records and GET /v1/records/{source}/{id} */
const routes: FastifyPluginAsyncTypebox<{ config: Config }> = async (app, { config }) => {
  app.get('/v1/records', {
    schema: {
      ...common,
      operationId: 'listRecords',
      summary: 'A page of records, newest first unless asked',
      querystring: ListQuerySchema,
      response: { 200: Type.Ref(PageSchema), default: problem },
    },
    onRequest: app.requireScope('read'),
    handler: async (request, reply) => {
      const page = await readPage(app.db.read, request.key as Key, request.query, config.MAX_PAGE_BYTES)
      return reply.sendJson(page)
    },
  })

  app.get('/v1/records/:source/:id', {
    schema: {
      ...common,
      operationId: 'getRecord',
      summary: 'One record; 404 answers "did it land?"',
      params: IdentitySchema,
      response: { 200: Type.Ref(RecordSchema), default: problem },
    },
    onRequest: app.requireScope('read'),
    handler: async (request, reply) => {
      const { source, id } = request.params
      return reply.sendJson(await readRecord(app.db.read, request.key as Key, source, id))
    },
  })
}

export default routes
