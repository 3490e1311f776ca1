import { setTimeout as sleep } from 'node:timers/promises'

export interface ReaderOptions {
  /** Where a request goes. */
  port(): number
  key: string
  source: string
}

/** Who follows the records of a source, list after list upwards, each from the cursor of the last record. */
export interface Reader {
  /** What was shown, in that order, by the numbers of the records. */
  seen: { number: number; cursor: string }[]
  /** Resolves when all these were shown. @throws when it takes a minute */
  shown(numbers: Iterable<number>): Promise<void>
  stop(): Promise<void>
}

const STALLED_MS = 60_000
const PAUSE_MS = 50

export function startReader({ port, key, source }: ReaderOptions): Reader {
  const seen: Reader['seen'] = []
  let [stopping, refusal] = [false, '']
  const running = run()
  return { seen, shown, stop }

  async function run(): Promise<void> {
    for (; !stopping; await sleep(PAUSE_MS)) {
      try {
        seen.push(...(await readOn(seen.at(-1)?.cursor)))
      } catch (error) {
        // Who reads is told of an outage, and asks again.
        refusal = (error as Error).message
      }
    }
  }

  async function readOn(cursor: string | undefined): Promise<Reader['seen']> {
    const query = new URLSearchParams({
      source,
      order: 'asc',
      limit: '1000',
      ...(cursor === undefined ? {} : { cursor }),
    })
    const headers = { authorization: `Bearer ${key}` }
    const response = await fetch(`http://127.0.0.1:${port()}/v1/records?${query}`, { headers })
    if (!response.ok) throw new Error(await response.text())
    const { records } = (await response.json()) as { records: { data: { n: number }; cursor: string }[] }
    return records.map(({ data, cursor }) => ({ number: data.n, cursor }))
  }

  async function shown(numbers: Iterable<number>): Promise<void> {
    const missing = new Set(numbers)
    let at = 0
    for (const giveUp = Date.now() + STALLED_MS; Date.now() < giveUp; await sleep(PAUSE_MS)) {
      for (const { number } of seen.slice(at)) missing.delete(number)
      at = seen.length
      if (missing.size === 0) return
    }
    throw new Error(`A reader was not shown ${missing.size} records in a minute. Told last: ${refusal || 'nothing'}`)
  }

  async function stop(): Promise<void> {
    stopping = true
    await running
  }
}
