import { zstdCompressSync } from 'node:zlib'
import { type Attack, repeat, times } from './attack.ts'

const JSON_BODY = { 'content-type': 'application/json' }
/** Sent at a time. */
const CONNECTIONS = 2

/** 1.85 million members in a body of the largest size, all of whose records are within the limit. */
export const shortMembers: Attack = (target) => {
  const members = Array.from({ length: 115_600 }, (_, n) => `"${n.toString(36).padStart(4, '_')}":1`)
  const record = `{"source":"a","type":"b","data":{${members.join()}}}`
  const body = Buffer.from(`[${new Array(16).fill(record).join()}]`)
  times(CONNECTIONS, () => void repeat(target, 'POST', '/v1/records', JSON_BODY, body))
}

/** 1.8 MB that inflate to nothing. */
export const emptyFrames: Attack = (target) => {
  const frame = zstdCompressSync('')
  const body = Buffer.concat(new Array(Math.floor(1_800_000 / frame.length)).fill(frame))
  times(
    CONNECTIONS,
    () => void repeat(target, 'POST', '/v1/records', { ...JSON_BODY, 'content-encoding': 'zstd' }, body),
  )
}
