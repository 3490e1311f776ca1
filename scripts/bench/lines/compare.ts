import type { BenchDatabase } from '../database.ts'
import { type Child, start } from '../processes.ts'
import { type Server, startServer } from '../servers/start.ts'
import { median, medianRatio, type Outcome, type Row, type Run } from '../table.ts'
import type { Sent, Task } from './sender.ts'

/** The same rows on each way: over HTTP as NDJSON; the same again, all duplicates; by COPY on one and two connections. */
const WAYS = ['ours', 'resend', 'copy', 'two copies'] as const
type Way = (typeof WAYS)[number]

/** Records a second of NDJSON on one connection, against COPY into an identical table. */
export async function compareWithCopy({ database, options }: Run): Promise<Outcome> {
  const rates: Record<Way, number[]> = { ours: [], resend: [], copy: [], 'two copies': [] }
  const server = await startServer('ours', database, options.profile)
  const sender = await start('lines/sender.ts')
  const records = Math.round(options.records)
  await sender.ask<null>({ kind: 'prepare', records } satisfies Task)

  const lines = new Lines(database, server, sender, records)
  const steps = [() => lines.postTwice(), () => lines.copy(1), () => lines.copy(2)]
  for (let round = 0; round <= options.rounds; round++) {
    // To and fro: nobody always comes after the same neighbour.
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

/** Each measurement begins with an empty table and a checkpoint, and ends with a look at what is stored. */
class Lines {
  readonly #database: BenchDatabase
  readonly #server: Server
  readonly #sender: Child
  readonly #records: number
  /** Of the first rows that were stored. All others have to be the same. */
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
    const { seconds, answer } = await this.#ask({ kind: 'post', port: this.#server.port, key: this.#database.key })
    const counted = answer?.status === status ? JSON.parse(answer.body).counts[count] : 0
    if (counted !== this.#records) {
      throw new Error(`lines ${way}: of ${this.#records} records ${counted} are ${count}: ${JSON.stringify(answer)}`)
    }
    await this.#check(way, 'ours')
    return this.#records / seconds
  }

  #ask(task: Task): Promise<Sent> {
    return this.#sender.ask<Sent>(task)
  }

  /** A rate proves nothing unless all rows are there, and the same ones. */
  async #check(way: Way, table: 'ours' | 'rival'): Promise<void> {
    const { count, digest } = await this.#database.digest(table)
    if (count !== this.#records)
      throw new Error(`lines ${way}: ${this.#records} records were sent, ${count} are stored`)
    this.#digest ??= digest
    if (digest !== this.#digest) throw new Error(`lines ${way}: other values are stored than before`)
  }
}

function toRows(rates: Record<Way, number[]>): Row[] {
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
