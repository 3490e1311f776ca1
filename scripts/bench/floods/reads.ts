import { setTimeout as sleep } from 'node:timers/promises'
import { type Attack, dial, repeat, type Target, times, toBytes } from './attack.ts'

const read = ({ key }: Target, path: string, headers: Record<string, string> = {}) =>
  toBytes('GET', path, { authorization: `Bearer ${key}`, ...headers })

/** How long a client waits for a list that reads the whole table. */
const PATIENCE_MS = 500

/** Fifteen clients at a time that ask for what no index finds, and leave before it is found. */
export const abandonedScans: Attack = (target) => {
  const scan = read(target, `/v1/records?data=${encodeURIComponent('{"no":"such"}')}`)
  times(15, async () => {
    for (;;) {
      const socket = dial(target)
      socket.write(scan)
      await sleep(PATIENCE_MS)
      socket.destroy()
    }
  })
}

/** Exports of which nothing is read. */
export const unreadExports: Attack = (target) => {
  times(40, () =>
    dial(target)
      .pause()
      .write(read(target, '/v1/records', { accept: 'application/x-ndjson' })),
  )
}

/** Pages of the largest size. */
export const largePages: Attack = (target) => times(60, () => void repeat(target, 'GET', '/v1/records?limit=1000', {}))
