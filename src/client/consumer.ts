import { quoted } from '../lib/quoted.ts'
import type { StoredConsumerDocument } from '../schemas/consumers.ts'
import { request } from './request.ts'
import type { Attempt } from './retry.ts'
import { notSluiceError, Refused, readJson, type Server } from './server.ts'

/** A named offset on the server, as this process knows it. */
export interface Consumer {
  name: string
  offset: string
  /** When retention deleted records that the consumer had not read; null: never. */
  overtakenAt: string | null
  etag: string
}

/** @returns undefined if there is none */
export async function findConsumer(server: Server, name: string): Promise<Consumer | undefined> {
  try {
    return readConsumer(server, name, await request(server, pathOf(name), {}))
  } catch (error) {
    if (error instanceof Refused && error.problem.code === 'not_found') return undefined
    throw error
  }
}

/** Creates a consumer at an offset. If there is one in the meantime, returns that: an earlier try whose response was lost may have created it. */
export async function createConsumer(server: Server, name: string, offset: string): Promise<Consumer> {
  try {
    return await put(server, name, offset, { 'if-none-match': '*' })
  } catch (error) {
    const existing = isPreconditionFailed(error) ? await findConsumer(server, name) : undefined
    if (existing === undefined) throw error
    return existing
  }
}

/**
 * Moves a consumer, unless another process has moved it.
 * @returns the new state
 * @throws Error with a sentence if another process has moved or deleted it; what `attempt` throws
 */
export async function commitOffset(
  server: Server,
  consumer: Consumer,
  offset: string,
  attempt: Attempt,
): Promise<Consumer> {
  const { name, etag } = consumer
  if (offset === consumer.offset) return consumer
  let isUnknown = false
  return attempt(async () => {
    if (isUnknown) {
      const stored = await findConsumer(server, name)
      // The offset is stored, but the response was lost.
      if (stored?.offset === offset) return stored
    }
    isUnknown = true
    return put(server, name, offset, { 'if-match': etag }).catch((error) => {
      throw isPreconditionFailed(error) ? notOurs(name) : error
    })
  })
}

export const describeOvertaken = ({ name, overtakenAt }: Consumer): string =>
  `Retention deleted records that the consumer ${quoted(name)} had not read, at ${overtakenAt}`

const notOurs = (name: string) =>
  new Error(
    `Another process has moved or deleted the consumer ${quoted(name)}. Let only one process use it, or give each its own`,
  )

const isPreconditionFailed = (error: unknown) =>
  error instanceof Refused && error.problem.code === 'precondition_failed'

const pathOf = (name: string) => `/v1/consumers/${encodeURIComponent(name)}`

async function put(server: Server, name: string, offset: string, condition: Record<string, string>): Promise<Consumer> {
  const headers = { 'content-type': 'application/json', ...condition }
  const init = { method: 'PUT', headers, body: JSON.stringify({ offset }) }
  return readConsumer(server, name, await request(server, pathOf(name), init))
}

function readConsumer({ url }: Server, name: string, answer: Awaited<ReturnType<typeof request>>): Consumer {
  const { offset, overtakenAt } = readJson(answer, answer.text, url) as StoredConsumerDocument
  const etag = answer.headers.get('etag')
  if (etag === null) throw notSluiceError(url, `${answer.status} without an ETag`)
  // A proxy that compresses responses makes the ETag weak, and If-Match never matches a weak one (RFC 9110, section 8.8.3.2).
  return { name, offset, overtakenAt, etag: etag.replace(/^W\//, '') }
}
