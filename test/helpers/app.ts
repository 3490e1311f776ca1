import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { SCOPES, type Scope } from '../../src/access/key.ts'
import { issueKey } from '../../src/access/manage-keys.ts'
import { buildApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config.ts'
import { createLogger } from '../../src/logger.ts'
import { connect } from './connect.ts'
import { createDatabase, type TestDatabase } from './postgres.ts'
import { UNSHED } from './unshed.ts'

export interface TestApp {
  app: FastifyInstance
  database: TestDatabase
  /** A key with all scopes. */
  key: string
  /** The log lines of the server so far. */
  logs: Record<string, unknown>[]
  makeKey(options?: {
    name?: string
    scopes?: Scope[]
    sourcePrefixes?: string[]
    recordsPerSecond?: number
    expiresAt?: Date
  }): Promise<{ id: string; token: string }>
  post(body: unknown, headers?: Record<string, string>): Promise<Answer>
  get(path: string, headers?: Record<string, string>): Promise<Answer>
}

export interface Answer {
  status: number
  headers: Record<string, unknown>
  /** The body as it was received. */
  text: string
  // biome-ignore lint/suspicious/noExplicitAny: the parsed body; each test knows its shape
  json: any
}

/**
 * Creates the production server with a new database. `t` closes both at its end. Requests go through Fastify's inject. Tests that
 * need a socket call `app.listen({ port: 0 })`.
 * @param settings environment variables; by default, nothing is shed
 * @param existing a migrated database to use instead of a new one
 */
export async function createApp(
  t: Test,
  settings: Record<string, string> = {},
  existing?: TestDatabase,
): Promise<TestApp> {
  const database = existing ?? (await createDatabase(t))
  const logs: Record<string, unknown>[] = []
  const logger = createLogger(settings.LOG_LEVEL ?? 'debug', { write: (line) => logs.push(JSON.parse(line)) })
  const app = await buildApp(loadConfig({ DATABASE_URL: database.apiUrl, ...UNSHED, ...settings }), logger)
  t.teardown(() => app.close())

  const makeKey: TestApp['makeKey'] = async ({
    name = 'test',
    scopes = [...SCOPES],
    sourcePrefixes = [],
    recordsPerSecond,
    expiresAt,
  } = {}) => {
    const db = connect(database.ownerUrl)
    const request = { name, scopes, sourcePrefixes, recordsPerSecond, expiresAt: expiresAt ?? null }
    return issueKey(db as never, request).finally(() => db.destroy())
  }
  const key = (await makeKey()).token

  const send = async (
    method: 'GET' | 'POST',
    url: string,
    headers: Record<string, string>,
    payload?: string | Buffer,
  ): Promise<Answer> => {
    const response = await app.inject({
      method,
      url,
      headers: { authorization: `Bearer ${key}`, ...headers },
      ...(payload === undefined ? {} : { payload }),
    })
    const isJson = /[/+]json\b/.test(String(response.headers['content-type']))
    return {
      status: response.statusCode,
      headers: response.headers,
      text: response.body,
      json: isJson ? JSON.parse(response.body) : undefined,
    }
  }
  return {
    app,
    database,
    key,
    logs,
    makeKey,
    post: (body, headers = {}) =>
      send(
        'POST',
        '/v1/records',
        { 'content-type': 'application/json', ...headers },
        typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body),
      ),
    get: (path, headers = {}) => send('GET', path, headers),
  }
}
