import { zstdCompressSync } from 'node:zlib'
import { type Attack, toBytes } from './attack.ts'

const MiB = 1024 * 1024
const JSON_TYPE = 'application/json'

const head = (key: string, headers: Record<string, string | number>) =>
  toBytes('POST', '/v1/records', { authorization: `Bearer ${key}`, ...headers })

/** Bodies of the largest size, without a key, for a method that does not read a body. */
export const optionsBodies: Attack = {
  connections: 8,
  request: () => {
    const body = Buffer.alloc(16 * MiB, ' ')
    return [toBytes('OPTIONS', '/v1/records', { 'content-type': JSON_TYPE, 'content-length': body.length }), body]
  },
}

/** Bodies without a key, for a path that does not exist. The last byte is sent only after the response. */
export const unknownPaths: Attack = {
  connections: 800,
  request: () => [
    toBytes('POST', '/nowhere', { 'content-type': JSON_TYPE, 'content-length': MiB }),
    Buffer.alloc(MiB - 1, ' '),
  ],
  withheld: Buffer.from(' '),
}

/** Bodies with an unknown key, in chunks of one byte. Each chunk takes 200 bytes of memory. */
export const tinyChunks: Attack = {
  connections: 64,
  request: () => [
    head('nobody', { 'content-type': JSON_TYPE, 'transfer-encoding': 'chunked' }),
    Buffer.from(`${'1\r\n \r\n'.repeat(10_000)}0\r\n\r\n`),
  ],
}

/** Bodies of the largest size that arrive at one byte per second. */
export const drippingUploads: Attack = {
  connections: 4,
  request: (key) => [head(key, { 'content-type': JSON_TYPE, 'content-length': 16 * MiB }), Buffer.from('[')],
  endless: true,
  drip: Buffer.from(' '),
}

/** Line streams that send the beginning of a line, and nothing more. */
export const idleStreams: Attack = {
  connections: 1030,
  request: (key) => [
    head(key, { 'content-type': 'application/x-ndjson', 'transfer-encoding': 'chunked' }),
    Buffer.from('1\r\n{\r\n'),
  ],
  endless: true,
}

/** A body of the largest size with 1.85 million members, in which no record exceeds the limit. */
export const shortMembers: Attack = {
  connections: 2,
  request: (key) => {
    const members = Array.from({ length: 115_600 }, (_, n) => `"${n.toString(36).padStart(4, '_')}":1`)
    const record = `{"source":"a","type":"b","data":{${members.join()}}}`
    const body = Buffer.from(`[${new Array(16).fill(record).join()}]`)
    return [head(key, { 'content-type': JSON_TYPE, 'content-length': body.length }), body]
  },
}

/** 1.8 MB of zstd frames that inflate to nothing. */
export const emptyFrames: Attack = {
  connections: 2,
  request: (key) => {
    const frame = zstdCompressSync('')
    const body = Buffer.concat(new Array(Math.floor(1_800_000 / frame.length)).fill(frame))
    return [head(key, { 'content-type': JSON_TYPE, 'content-encoding': 'zstd', 'content-length': body.length }), body]
  },
}
