import type { Fault } from '../fault.ts'
import type { Server } from '../server.ts'

const BREATH = 30

const roundsOf = (quick: boolean) => (quick ? 2 : 5)

/** The API is away. */
export const API_FAULTS: Fault[] = [
  {
    name: 'api-kill',
    title: 'kill -9 of the API between a commit and its answers, 5 times',
    quickTitle: 'kill -9 of the API between a commit and its answers, twice',
    errors: {
      most: ({ clients, quick }) => clients * roundsOf(quick),
      because: 'one under way for each client and kill',
    },
    unreachable: true,
    async inflict({ proxy, servers, startServer, writers, back }, quick) {
      for (let round = 0; round < roundsOf(quick); round++) {
        const [server] = servers as [Server]
        await proxy.cutCommit('after', true)
        server.signal('SIGKILL')
        await server.exit
        await startServer(server.port)
        await back()
        await writers.acknowledged(BREATH)
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
    // Beside other tests, what looks for readiness takes longer to notice.
    quickEnv: { DRAIN_SECONDS: '6' },
    async inflict({ servers, startServer, writers }, quick) {
      for (let round = 0; round < (quick ? 1 : 3); round++) {
        for (const old of [...servers]) {
          await startServer()
          await writers.acknowledged(BREATH)
          old.signal('SIGTERM')
          const code = await old.exit
          if (code !== 0) throw new Error(`The API ended with ${code} after SIGTERM`)
          await writers.acknowledged(BREATH)
        }
      }
      return undefined
    },
  },
]
