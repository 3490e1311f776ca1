import { Command } from 'commander'
import { findKey } from '../src/client/key.ts'
import { showProgress } from '../src/client/progress.ts'
import { checkReachable, urlOption } from '../src/client/server.ts'
import { toTable } from '../src/client/table.ts'
import { explain } from '../src/lib/explain.ts'
import type { Counts } from '../src/schemas/results.ts'
import { store } from './demo/client.ts'
import { readDeliveries } from './demo/deliveries.ts'

/** Records per request, about 250 kB of real webhooks. */
const BATCH = 25
/** Concurrent requests. */
const CONNECTIONS = 4

const program = new Command('demo')
  .description('Stores the GitHub webhook deliveries of @octokit/webhooks-examples on a running server.')
  .addOption(urlOption())
  .addHelpText('after', '\nThe API key is SLUICE_KEY, or the one that npm start created.')

demo(program.parse().opts()).catch((error) => {
  console.error(`demo: ${explain(error)}.`)
  process.exitCode = 1
})

async function demo({ url }: { url: string }): Promise<void> {
  const key = await findKey()
  await checkReachable(url)
  const deliveries = readDeliveries()
  const counts: Counts = { created: 0, duplicate: 0, conflict: 0, rejected: 0 }
  const reasons = new Set<string>()

  const progress = showProgress(deliveries.length)
  const begin = performance.now()
  // All senders share one generator, and each takes the next batch when it is free.
  const batches = chunks(deliveries, BATCH)
  let done = 0
  const senders = Array.from({ length: CONNECTIONS }, async () => {
    for (const batch of batches) {
      const result = await store({ url, token: key.token }, batch)
      for (const status of Object.keys(counts) as (keyof Counts)[]) counts[status] += result.counts[status]
      for (const reason of result.reasons) reasons.add(reason)
      done += batch.length
      progress.update(done, `${done} of ${deliveries.length} deliveries`)
    }
  })
  await Promise.all(senders).finally(progress.stop)
  const seconds = (performance.now() - begin) / 1000

  console.log(`\n${toTable({ ...counts, 'records/s': Math.round(deliveries.length / seconds) })}\n`)
  console.log(
    `Look at one: curl -sS '${url}/v1/records?type=github.push&limit=1' -H "Authorization: Bearer ${key.shell}"`,
  )
  const refused = counts.conflict + counts.rejected
  if (refused > 0) throw new Error(`${refused} deliveries were not stored: ${[...reasons].join(' ')}`)
}

function* chunks<T>(items: readonly T[], size: number): Generator<T[]> {
  for (let start = 0; start < items.length; start += size) yield items.slice(start, start + size)
}
