import { type Attack, toBytes } from './attack.ts'

/** Requests in flight on one connection. The server closes a connection with more than MAX_PIPELINED (src/plugins/bodies.ts). */
const PIPELINED = 30

const RECORD = '{"source":"a","type":"b"}'

const post = (key: string, body: string, headers: Record<string, string> = {}) =>
  toBytes(
    'POST',
    '/v1/records',
    { authorization: `Bearer ${key}`, 'content-type': 'application/json', 'content-length': body.length, ...headers },
    body,
  )

/** 15,900 requests, each with a transaction of its own. Strict requests with a single record would share a transaction. */
export const strictPairs: Attack = {
  connections: 530,
  pipelined: PIPELINED,
  request: (key) => [post(key, `[${RECORD},${RECORD}]`, { prefer: 'handling=strict' })],
}

/** 18,000 requests of 25 bytes that wait for the database. */
export const pipelinedSingles: Attack = {
  connections: 600,
  pipelined: PIPELINED,
  request: (key) => [post(key, RECORD)],
}
