import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import type { TestApp } from '../../helpers/app.ts'
import { listen } from '../../helpers/socket.ts'
import { read } from './feed.ts'
import { messagesIn } from './messages.ts'

/**
 * Starts an HTTP server that shows Sluice as the suite expects a server: with streams to create and to append to, and with messages
 * instead of records. A stream is a source, and a message is a record. All that the suite reads comes from /v1/feed, with its
 * statuses and headers.
 * @returns its URL
 */
export async function startAdapter(t: Test, server: TestApp): Promise<string> {
  const feed = { port: await listen(server.app), key: server.key }
  /** The content type of each stream, by its path. */
  const streams = new Map<string, string>()

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path = '', ...query] = (request.url as string).split('?')
    const contentType = streams.get(path)
    if (request.method === 'PUT') {
      const type = request.headers['content-type'] ?? 'application/octet-stream'
      streams.set(path, type)
      sendOffset(response, 201, await append(path, type, request))
    } else if (request.method === 'POST' && contentType !== undefined) {
      sendOffset(response, 204, await append(path, contentType, request))
    } else {
      const stream = contentType === undefined ? undefined : { source: path, contentType }
      await read(feed, stream, query.join('?'), request, response)
    }
  }

  /**
   * Stores each message in a body as a record, and waits until the feed shows them. Another transaction, such as that of the
   * statistics, can hold them back for an instant, and the suite reads at once.
   * @returns the offset of the last one
   */
  async function append(source: string, contentType: string, request: IncomingMessage): Promise<string | undefined> {
    let offset: string | undefined
    for (const payload of messagesIn(Buffer.concat(await request.toArray()), contentType)) {
      const { status, text, headers } = await server.post({ source, type: 'message', ...payload })
      if (status !== 201) throw new Error(text)
      offset = (await server.get(String(headers.location))).json.cursor
    }
    if (offset !== undefined) await untilShown(offset)
    return offset
  }

  async function untilShown(offset: string): Promise<void> {
    const headOf = async (query: string) => {
      const { status, text, headers } = await server.get(`/v1/feed?${query}`)
      if (status !== 200 && status !== 204) throw new Error(text)
      return String(headers['stream-next-offset'])
    }
    let head = await headOf('offset=now')
    while (head < offset) head = await headOf(`live=long-poll&offset=${head}`)
  }

  const adapter = createServer((request, response) => {
    answer(request, response).catch((error) => {
      // The suite closes many of its connections early.
      if (!response.destroyed) t.comment(`${request.method} ${request.url}: ${error.stack}`)
      response.destroy()
    })
  })
  // The suite may compute for seconds between two requests. The connection must not be closed meanwhile.
  adapter.keepAliveTimeout = 0
  await new Promise<void>((resolve) => adapter.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    adapter.closeAllConnections()
    return new Promise<unknown>((resolve) => adapter.close(resolve))
  })
  return `http://127.0.0.1:${(adapter.address() as AddressInfo).port}`
}

function sendOffset(response: ServerResponse, status: number, offset: string | undefined): void {
  response.writeHead(status, offset === undefined ? {} : { 'stream-next-offset': offset }).end()
}
