import { type Consumer, commitOffset, createConsumer, describeOvertaken, findConsumer } from '../client/consumer.ts'
import type { Attempt } from '../client/retry.ts'
import type { Server } from '../client/server.ts'
import { printable } from '../lib/printable.ts'
import { quoted } from '../lib/quoted.ts'
import { isAbort } from './following.ts'

/**
 * Finds the consumer of `--consumer`, or creates it.
 * @param from the option `--from`
 * @param begin finds the offset at which to create the consumer
 * @throws Error with a sentence if it exists in spite of `from`; what `attempt` and `begin` throw
 */
export async function openConsumer(
  server: Server,
  name: string,
  from: string | undefined,
  begin: () => Promise<string>,
  attempt: Attempt,
): Promise<Consumer> {
  const existing = await attempt(() => findConsumer(server, name))
  if (existing === undefined) {
    const offset = await begin()
    return attempt(() => createConsumer(server, name, offset))
  }
  if (from !== undefined)
    throw new Error(
      `The consumer ${quoted(name)} exists, so --from is not possible. Omit it to continue where the consumer stopped, choose another name, or delete the consumer: DELETE /v1/consumers/${name}`,
    )
  if (existing.overtakenAt !== null) console.error(printable(describeOvertaken(existing)))
  return existing
}

/** Stores the offset of what was written. After a signal, it tries only once. @throws Error with a sentence if it is not stored */
export function storeOffset(server: Server, consumer: Consumer, offset: string, attempt: Attempt): Promise<Consumer> {
  return commitOffset(server, consumer, offset, attempt).catch((cause) => {
    if (!isAbort(cause)) throw cause
    throw new Error(
      `Interrupted, but the offset of the consumer ${quoted(consumer.name)} could not be stored. The next run will print the last records again`,
    )
  })
}
