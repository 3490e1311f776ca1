import t from 'tap'
import { runModel, SERVER_SETTINGS } from '../../scripts/durability/model/run.ts'
import { openPostgres } from '../../scripts/durability/postgres.ts'
import { stopServers } from '../../scripts/durability/server.ts'
import { FAST, ownFolder } from '../helpers/own-server.ts'

// One short round, or more if a busy machine stores too little in one. For longer runs: npm run durability -- --model --minutes 30 --seed 1
const SEED = 12
const SECONDS = 5

t.setTimeout(300_000)

t.test(
  'during random faults, all responses to random requests agree with the stored and the listed records',
  async (t) => {
    const folder = await ownFolder(t)
    const postgres = await openPostgres(folder, { ...FAST, ...SERVER_SETTINGS })
    t.teardown(() => postgres.close())
    t.teardown(() => stopServers())
    const onLine = (line: string) => t.comment(line)
    const stop = new AbortController().signal
    const seen = { created: 0, conflict: 0, faults: 0 }
    for (let seed = SEED; Object.values(seen).includes(0); seed++) {
      const result = await runModel({ postgres, folder, seed, seconds: 0, roundSeconds: SECONDS, stop, onLine })
      t.same(result.findings, [])
      seen.created += result.claims.created ?? 0
      seen.conflict += result.claims.conflict ?? 0
      seen.faults += result.faults
    }
  },
)
