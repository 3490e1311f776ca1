import { type Attack, toBytes } from './attack.ts'

const read = (key: string, path: string, headers: Record<string, string> = {}) =>
  toBytes('GET', path, { authorization: `Bearer ${key}`, ...headers })

/** Lists that no index finds, whose clients leave before they are found. */
export const abandonedScans: Attack = {
  connections: 15,
  request: (key) => [read(key, `/v1/records?data=${encodeURIComponent('{"no":"such"}')}`)],
  leaveMs: 500,
}

/** Exports of which only the status is read. The server closes them after STALL_SECONDS, which nobody would notice. */
export const unreadExports: Attack = {
  connections: 40,
  request: (key) => [read(key, '/v1/records', { accept: 'application/x-ndjson' })],
  unread: true,
  leaveMs: 5_000,
}

/** Pages of the largest size. */
export const largePages: Attack = {
  connections: 60,
  request: (key) => [read(key, '/v1/records?limit=1000')],
}
