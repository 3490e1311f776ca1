import type { IncomingMessage } from 'node:http'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { quoted } from '../lib/quoted.ts'
import { Problem } from '../problems.ts'

/** RFC 9110, section 7.2: uri-host [":" port]. RFC 3986, section 3.2.2: an address in brackets, or a name, which may be empty. */
const HOST = /^(?:\[[\da-f:.]+\]|(?:[\w.~!$&'()*+,;=-]|%[\da-f]{2})*)(?::\d*)?$/i

/** Rules of HTTP that neither Node.js nor Fastify checks, or that Node.js enforces without a problem document. */
export default fp(
  async function httpRules(app: FastifyInstance) {
    // Node.js would respond itself: with 100 Continue before the key is checked, and with an empty 417.
    for (const event of ['checkContinue', 'checkExpectation'])
      app.server.on(event, (request, response) => app.server.emit('request', request, response))

    app.server.prependListener('request', (request: IncomingMessage) => {
      if (request.url?.charCodeAt(0) !== SLASH) request.url = toOriginForm(request.url ?? '')
    })

    app.addHook('onRequest', ({ raw }, _reply, done) => {
      try {
        checkRequest(raw)
        done()
      } catch (error) {
        done(error as Error)
      }
    })
  },
  { name: 'http-rules', dependencies: ['access-log', 'bodies'] },
)

const SLASH = 0x2f

/** A server must accept the whole URL as a target, as a proxy gets it (RFC 9112, section 3.2.2). */
function toOriginForm(target: string): string {
  const rest = /^https?:\/\/[^/?#]*(.*)$/i.exec(target)?.[1]
  if (rest === undefined) return target
  return rest.startsWith('/') ? rest : `/${rest}`
}

/** @throws Problem */
function checkRequest(request: IncomingMessage): void {
  const { httpVersionMajor, httpVersionMinor, url = '' } = request
  if (httpVersionMajor !== 1)
    throw new Problem('http_version_not_supported', 'Only HTTP/1.1 and HTTP/1.0 are supported (curl --http1.1).', {
      headers: CLOSE,
    })
  // RFC 9112, section 3.2.4. The router would take it for the path /.
  if (url === '*' && request.method !== 'OPTIONS')
    throw new Problem('invalid_request', 'The target * is only for OPTIONS.')
  checkHost(request)
  const { expect, 'transfer-encoding': coding } = request.headers
  if (coding !== undefined) checkTransferCoding(coding, httpVersionMinor)
  // RFC 9110, section 10.1.1. HTTP/1.0 does not have this header.
  if (expect !== undefined && httpVersionMinor > 0 && expect.trim().toLowerCase() !== '100-continue')
    throw new Problem('expectation_failed', 'The only supported expectation is 100-continue. Omit the header Expect.')
  const query = url.indexOf('?')
  // OPTIONS does not read its query: a browser sends it before the request, with the same URL, and the page must be able to read why
  // that one is refused.
  if (query !== -1 && request.method !== 'OPTIONS') checkQuery(url.slice(query + 1))
}

/** RFC 9112, section 3.2. `headers` has only the first of several, so this reads the raw headers. */
function checkHost({ rawHeaders, httpVersionMinor }: IncomingMessage): void {
  let host: string | undefined
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] as string
    if (name.length !== 4 || name.toLowerCase() !== 'host') continue
    if (host !== undefined) throw invalidHost('occurs twice')
    host = rawHeaders[at + 1] as string
  }
  if (host === undefined) {
    if (httpVersionMinor > 0) throw invalidHost('is missing')
  } else if (!HOST.test(host)) throw invalidHost('is not a host with an optional port')
}

/**
 * RFC 9112, section 6.1 and 6.3. Node.js removes the chunked coding and passes on whatever other coding is below it.
 * After faulty framing, nothing more on the connection can be trusted.
 */
function checkTransferCoding(header: string, httpVersionMinor: number): void {
  const codings = header.toLowerCase().split(/[\s,]+/)
  const isChunked = codings.pop() === 'chunked'
  if (httpVersionMinor === 0) throw invalidFraming('is not allowed in HTTP/1.0')
  if (!isChunked || codings.includes('chunked')) throw invalidFraming('must end with chunked, which may occur once')
  if (codings.length > 0) {
    const detail = `Transfer-Encoding ${quoted(header)} is not supported. Use chunked alone, and Content-Encoding for compression.`
    throw new Problem('not_implemented', detail, { headers: CLOSE })
  }
}

/** Otherwise `%zz` would be taken as it is, and the list would be filtered by that text. */
function checkQuery(query: string): void {
  try {
    decodeURIComponent(query)
  } catch {
    throw new Problem(
      'invalid_query',
      'The query is not valid percent-encoded UTF-8. Encode it (curl -G --data-urlencode), and write % as %25.',
    )
  }
}

const CLOSE = { connection: 'close' }

const invalidHost = (why: string) => invalidHeader('host', `The header Host ${why}.`)
const invalidFraming = (why: string) =>
  invalidHeader('transfer-encoding', `The header Transfer-Encoding ${why}.`, CLOSE)

function invalidHeader(pointer: string, detail: string, headers: Record<string, string> = {}): Problem {
  return new Problem('invalid_header', detail, { headers, errors: [{ pointer, code: 'invalid_header', detail }] })
}
