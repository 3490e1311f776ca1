import { type Measurement, measure, type Order } from '../requests/measure.ts'
import { now } from './clock.ts'

/** What the sender did. The arrays have one entry for each acknowledged record. */
export interface Sent extends Measurement {
  numbers: Uint32Array
  /** By the clock of clock.ts. */
  sentAt: Float64Array
  respondedAt: Float64Array
}

process.on('message', async (order: Order) => process.send?.(await send(order)))
process.once('disconnect', () => process.exit())
process.send?.('ready')

/** Sends single records. All of a run's come from one process, so that no id occurs twice. */
async function send(order: Order): Promise<Sent> {
  const numbers: number[] = []
  const [sentAt, respondedAt]: [number[], number[]] = [[], []]
  const ahead = now() - performance.now()
  const measurement = await measure(order, (number, sent, responded) => {
    numbers.push(number)
    sentAt.push(sent + ahead)
    respondedAt.push(responded + ahead)
  })
  return {
    ...measurement,
    numbers: Uint32Array.from(numbers),
    sentAt: Float64Array.from(sentAt),
    respondedAt: Float64Array.from(respondedAt),
  }
}
