import type { Fault } from '../fault.ts'
import type { Server } from '../server.ts'

/** Acknowledged requests between two kills or replacements. */
const ACKNOWLEDGED_BETWEEN = 30

const roundsOf = (quick: boolean) => (quick ? 2 : 5)

/** Faults of the API. */
export const API_FAULTS: Fault[] = [
  {
    name: 'api-kill',
    title: 'kill -9 of the API between a commit and its responses, 5 times',
    quickTitle: 'kill -9 of the API between a commit and its responses, twice',
    errors: {
      most: ({ clients, quick }) => clients * roundsOf(quick),
      because: 'each client has one request in flight at each kill',
    },
    unreachable: true,
    async apply({ proxy, servers, startServer, writers, resumed }, quick) {
      for (let round = 0; round < roundsOf(quick); round++) {
        const [server] = servers as [Server]
        await proxy.cutCommit('after', true)
        server.signal('SIGKILL')
        await server.exit
        await startServer(server.port)
        await resumed()
        await writers.acknowledged(ACKNOWLEDGED_BETWEEN)
      }
      return undefined
    },
  },
  {
    name: 'api-replace',
    title: 'SIGTERM of the API: two instances replaced, one after the other, 3 times',
    quickTitle: 'SIGTERM of the API: two instances replaced, one after the other',
    instances: 2,
    env: { DRAIN_SECONDS: '3' },
    // On a machine that runs other tests, the probes take longer to notice that an instance is not ready.
    quickEnv: { DRAIN_SECONDS: '6' },
    async apply({ servers, startServer, writers }, quick) {
      for (let round = 0; round < (quick ? 1 : 3); round++) {
        for (const old of [...servers]) {
          await startServer()
          await writers.acknowledged(ACKNOWLEDGED_BETWEEN)
          old.signal('SIGTERM')
          const code = await old.exit
          if (code !== 0) throw new Error(`The API exited with ${code} after SIGTERM`)
          await writers.acknowledged(ACKNOWLEDGED_BETWEEN)
        }
      }
      return undefined
    },
  },
]
