import { type Attack, toBytes } from './attack.ts'

const read = (key: string, path: string, headers: Record<string, string> = {}) =>
  toBytes('GET', path, { authorization: `Bearer ${key}`, ...headers })

/** Searches that no index supports, whose clients disconnect before the response. */
export const abandonedScans: Attack = {
  connections: 15,
  request: (key) => [read(key, `/v1/records?data=${encodeURIComponent('{"no":"such"}')}`)],
  leaveMs: 500,
}

/** Exports of which the client reads only the status. It disconnects after 5 s and tries again, long before STALL_SECONDS. */
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
