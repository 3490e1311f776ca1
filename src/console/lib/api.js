import { readKey } from './key.js'

/** The console is at /console/ of the server, perhaps below a path prefix, and the API beside it. */
const API = new URL('../v1/', document.baseURI)

/** A request that was refused or got no response. The message says why, and what to do. */
export class ApiError extends Error {
  /**
   * @param {number} status 0: there was no response
   * @param {string} detail
   */
  constructor(status, detail) {
    super(detail)
    this.status = status
  }
}

/** @param {Error} error the browser has its own words for a connection that breaks */
export const toApiError = (error) =>
  error instanceof ApiError ? error : new ApiError(0, 'The connection to the server was interrupted.')

/** The clock of the server, which may differ from that of the browser, in milliseconds since 1970. */
export const serverTime = () => Date.now() + ahead
let ahead = 0

/** Why a request is aborted for which no byte comes. A broken connection may not be noticed for many minutes. */
export const SILENT = 'silent'

/** `refused`: the server does not accept the key any more, and says why in `detail`. `forgotten`: the session has ended. */
export const keyEvents = new EventTarget()

/**
 * @param {string} path below /v1/
 * @param {Record<string, string | number | undefined>} [query] empty values are left out
 */
export function urlOf(path, query = {}) {
  const url = new URL(path, API)
  for (const [name, value] of Object.entries(query))
    if (value !== undefined && value !== '') url.searchParams.set(name, String(value))
  return url.href
}

/**
 * @typedef {object} Request
 * @property {string} [method] default: GET
 * @property {Record<string, string | number | undefined>} [query]
 * @property {string} [accept] a media type
 * @property {unknown} [body] sent as JSON
 * @property {AbortSignal} [signal]
 */

/**
 * Sends a request with the key.
 * @param {string} path below /v1/
 * @param {Request} [request]
 * @returns a response whose status is 2xx
 * @throws ApiError
 */
export async function send(path, { method = 'GET', query, accept = 'application/json', body, signal } = {}) {
  const response = await fetch(urlOf(path, query), {
    method,
    headers: {
      authorization: `Bearer ${readKey()}`,
      accept,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    body: body === undefined ? null : JSON.stringify(body),
    signal: signal ?? null,
    cache: 'no-store',
    credentials: 'omit',
    redirect: 'error',
  }).catch((error) => {
    if (signal?.aborted && signal.reason !== SILENT) throw error
    throw new ApiError(0, 'The server does not respond. Check that it runs, and that your network reaches it.')
  })
  const date = Date.parse(response.headers.get('date') ?? '')
  if (!Number.isNaN(date)) ahead = date - Date.now()
  if (response.ok) return response
  const detail = await detailOf(response)
  if (response.status === 401) keyEvents.dispatchEvent(new CustomEvent('refused', { detail }))
  throw new ApiError(response.status, detail)
}

/** @typedef {{ source: string, id: string, type: string, subject?: string, receivedAt: string }} StoredRecord */

/**
 * The documents of the API, which the server describes with these types.
 * @typedef {object} Documents
 * @property {import('../../schemas/status.ts').StatusDocument} status
 * @property {import('../../schemas/stats.ts').StatsDocument} stats
 * @property {{ consumers: import('../../schemas/consumers.ts').ConsumerDocument[] }} consumers
 * @property {{ keys: import('../../schemas/keys.ts').KeyDocument[] }} keys
 * @property {{ records: StoredRecord[], next: string | null }} records
 */

/**
 * @template {keyof Documents} Path
 * @param {Path} path
 * @param {Request} [request]
 * @returns {Promise<Documents[Path]>}
 */
export const readJson = async (path, request) => (await send(path, request)).json()

/** @param {Response} response with a problem document (RFC 9457), or from a proxy */
async function detailOf(response) {
  const { detail } = await response.json().catch(() => ({}))
  return typeof detail === 'string' ? detail : `The response has the status ${response.status}, perhaps from a proxy.`
}
