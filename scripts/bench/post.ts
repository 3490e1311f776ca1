import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'

export interface PostResponse {
  status: number
  body: string
}

/** Posts NDJSON on a new connection, piece by piece, as fast as the server reads it. */
export async function postLines(
  port: number,
  key: string,
  length: number,
  pieces: Iterable<Buffer>,
): Promise<PostResponse> {
  const post = request({
    host: '127.0.0.1',
    port,
    agent: false,
    method: 'POST',
    path: '/v1/records',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/x-ndjson', 'content-length': length },
  })
  const responded = once(post, 'response')
  // A server that refuses the request may respond and close before everything is sent. The response then says more than this error.
  const sent = pipeline(Readable.from(pieces), post).catch(() => {})
  const [response] = (await responded) as [IncomingMessage]
  const body = await text(response)
  await sent
  return { status: response.statusCode as number, body }
}
