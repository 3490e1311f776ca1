import t from 'tap'
import { runModel, SERVER_SETTINGS } from '../../scripts/durability/model/run.ts'
import { openPostgres } from '../../scripts/durability/postgres.ts'
import { stopServers } from '../../scripts/durability/server.ts'
import { FAST, ownFolder } from '../helpers/own-server.ts'

// One short round. For longer runs: npm run durability -- --model --minutes 30 --seed 1
const SEED = 12
const SECONDS = 6

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
    const result = await runModel({ postgres, folder, seed: SEED, seconds: 0, roundSeconds: SECONDS, stop, onLine })
    t.same(result.findings, [])
    const { created = 0, conflict = 0 } = result.claims
    t.ok(created > 0 && conflict > 0, 'records were stored, and some conflicted', result)
    t.ok(result.faults > 0, 'faults occurred', result)
  },
)
