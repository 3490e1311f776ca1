import { type Attack, dial, times, toBytes } from './attack.ts'

const MiB = 1024 * 1024
const ingest = (key: string, type: string) => ({ authorization: `Bearer ${key}`, 'content-type': type })

/** Without a key: bodies of the largest size that no route asked for. */
export const optionsBodies: Attack = (target) => {
  const body = Buffer.alloc(16 * MiB, ' ')
  times(8, () => {
    const socket = dial(target)
    socket.write(
      toBytes('OPTIONS', '/v1/records', { 'content-type': 'application/json', 'content-length': body.length }),
    )
    socket.write(body)
  })
}

/** Without a key: bodies that nearly came to their end, for a path that does not exist. */
export const unknownPaths: Attack = (target) => {
  const body = Buffer.alloc(MiB - 1, ' ')
  times(800, () => {
    const socket = dial(target)
    socket.write(toBytes('POST', '/nowhere', { 'content-type': 'application/json', 'content-length': MiB }))
    socket.write(body)
  })
}

/** Four of the largest bodies, of which a byte a second comes. */
export const drippingUploads: Attack = (target) => {
  times(4, () => {
    const socket = dial(target)
    socket.write(
      toBytes('POST', '/v1/records', { ...ingest(target.key, 'application/json'), 'content-length': 16 * MiB }, '['),
    )
    setInterval(() => socket.write(' '), 1000)
  })
}

/** Streams of lines that send the beginning of one, and nothing more. */
export const idleStreams: Attack = (target) => {
  const headers = { ...ingest(target.key, 'application/x-ndjson'), 'transfer-encoding': 'chunked' }
  times(1030, () => dial(target).write(toBytes('POST', '/v1/records', headers, '1\r\n{\r\n')))
}
