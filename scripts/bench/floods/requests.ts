import { type Attack, dial, times, toBytes } from './attack.ts'

const RECORD = '{"source":"a","type":"b"}'

const post = (key: string, headers: Record<string, string> = {}) =>
  toBytes(
    'POST',
    '/v1/records',
    {
      authorization: `Bearer ${key}`,
      'content-type': 'application/json',
      'content-length': RECORD.length,
      ...headers,
    },
    RECORD,
  )

const many = (bytes: Buffer, count: number) => Buffer.concat(Array.from({ length: count }, () => bytes))

/** 16,000 records that are each a transaction of their own; each answer is followed by another one. */
export const strictSingles: Attack = (target) => {
  const one = post(target.key, { prefer: 'handling=strict' })
  const pipelined = many(one, 1000)
  times(16, () => dial(target, (socket) => socket.write(one)).write(pipelined))
}

/** 72,000 requests of 25 bytes, which all wait for the database. */
export const pipelinedSingles: Attack = (target) => {
  const pipelined = many(post(target.key), 120)
  times(600, () => dial(target).write(pipelined))
}
