import type { BenchDatabase } from '../database.ts'
import { type Child, start } from '../processes.ts'
import { type Server, startServer } from '../servers/start.ts'
import { median, medianRatio, type Outcome, type Run, type TableRow } from '../table.ts'
import type { Sent, Task } from './sender.ts'

const RECORDS = 300_000

/** The same rows are sent as NDJSON (ours), again as duplicates (resend), and with COPY on one and on two connections. */
const WAYS = ['ours', 'resend', 'copy', 'two copies'] as const
type Way = (typeof WAYS)[number]

/** Compares the rate of NDJSON on one connection with COPY into an identical table. */
export async function compareWithCopy({ database, options }: Run): Promise<Outcome> {
  const rates: Record<Way, number[]> = { ours: [], resend: [], copy: [], 'two copies': [] }
  const server = await startServer('ours', database, options.profile)
  const sender = await start('lines/sender.ts')
  const records = Math.round(options.records ?? RECORDS)
  await sender.ask<null>({ kind: 'prepare', records } satisfies Task)

  const lines = new Lines(database, server, sender, records)
  const steps = [() => lines.postTwice(), () => lines.copy(1), () => lines.copy(2)]
  for (let round = 0; round <= options.rounds; round++) {
    // The order alternates, so that no step always runs after the same other step.
    for (const step of round % 2 === 0 ? steps : steps.toReversed()) {
      for (const [way, rate] of await step()) {
        console.error(`${round === 0 ? 'warm-up' : `round ${round}`} lines ${way}: ${Math.round(rate)} records/s`)
        if (round > 0) rates[way].push(rate)
      }
    }
  }
  await Promise.all([server.child.stop(), sender.stop()])
  return { rows: toRows(rates), faults: [] }
}

/** Each measurement begins with an empty table (except resend) and a checkpoint, and ends with a check of the stored rows. */
class Lines {
  readonly #database: BenchDatabase
  readonly #server: Server
  readonly #sender: Child
  readonly #records: number
  /** Digest of the rows of the first measurement. All others must store the same rows. */
  #digest: string | undefined

  constructor(database: BenchDatabase, server: Server, sender: Child, records: number) {
    this.#database = database
    this.#server = server
    this.#sender = sender
    this.#records = records
  }

  async postTwice(): Promise<[Way, number][]> {
    await this.#database.empty()
    const first = await this.#post('ours', 201, 'created')
    await this.#database.checkpoint()
    const second = await this.#post('resend', 200, 'duplicate')
    return [
      ['ours', first],
      ['resend', second],
    ]
  }

  async copy(connections: 1 | 2): Promise<[Way, number][]> {
    await this.#database.empty()
    const { seconds } = await this.#ask({ kind: 'copy', url: this.#database.ownerUrl, connections })
    const way = connections === 1 ? 'copy' : 'two copies'
    await this.#check(way, 'rival')
    return [[way, this.#records / seconds]]
  }

  async #post(way: Way, status: number, count: 'created' | 'duplicate'): Promise<number> {
    const { seconds, response } = await this.#ask({ kind: 'post', port: this.#server.port, key: this.#database.key })
    const counted = response?.status === status ? JSON.parse(response.body).counts[count] : 0
    if (counted !== this.#records) {
      throw new Error(`lines ${way}: ${counted} of ${this.#records} records are ${count}: ${JSON.stringify(response)}`)
    }
    await this.#check(way, 'ours')
    return this.#records / seconds
  }

  #ask(task: Task): Promise<Sent> {
    return this.#sender.ask<Sent>(task)
  }

  /** A rate proves nothing unless all rows are stored, with the same content. */
  async #check(way: Way, table: 'ours' | 'rival'): Promise<void> {
    const { count, digest } = await this.#database.digest(table)
    if (count !== this.#records)
      throw new Error(`lines ${way}: ${this.#records} records were sent, ${count} are stored`)
    this.#digest ??= digest
    if (digest !== this.#digest) throw new Error(`lines ${way}: the stored values are not those of the first round`)
  }
}

function toRows(rates: Record<Way, number[]>): TableRow[] {
  return WAYS.map((way) => ({
    name: `lines ${way}`,
    rate: Math.round(median(rates[way])),
    ratios: {
      copy: medianRatio(rates[way], rates.copy),
      'two copies': medianRatio(rates[way], rates['two copies']),
      ...(way === 'resend' ? { first: medianRatio(rates.resend, rates.ours) } : {}),
    },
  }))
}
