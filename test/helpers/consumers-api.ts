import type { Test } from 'tap'
import { createApp } from './app.ts'
import { until } from './until.ts'

type Method = 'GET' | 'PUT' | 'DELETE' | 'HEAD' | 'POST'
export type Headers = Record<string, string>

export const CREATE = { 'if-none-match': '*' }

export const match = (etag: unknown) => ({ 'if-match': String(etag) })

/** A server, and requests about its consumers. */
export async function openConsumers(t: Test) {
  const server = await createApp(t)
  const { app, post } = server
  return { ...server, call, put, store }

  async function call(method: Method, path: string, headers: Headers = {}, body?: unknown, token = server.key) {
    const response = await app.inject({
      method,
      url: `/v1/consumers${path}`,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { payload: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
    const json = response.body === '' ? undefined : response.json()
    return { status: response.statusCode, headers: response.headers, text: response.body, json }
  }

  function put(name: string, offset: string, headers: Headers = CREATE) {
    return call('PUT', `/${name}`, headers, { offset })
  }

  async function headOfFeed(): Promise<string> {
    const { headers } = await app.inject({
      method: 'HEAD',
      url: '/v1/feed',
      headers: { authorization: `Bearer ${server.key}` },
    })
    return headers['stream-next-offset'] as string
  }

  /** Stores a record, and waits until it is in the feed. @returns its offset */
  async function store(id: string): Promise<string> {
    const { cursor } = (await post({ source: 'shop', type: 't', id })).json.results[0]
    await until('the record to be in the feed', async () => (await headOfFeed()) === cursor)
    return cursor
  }
}
