import { begin, type Target, tally } from './attack.ts'
import { FLOODS, type FloodName } from './floods.ts'

export interface Order extends Target {
  flood: FloodName
}

/** An order starts a flood. The reply to every message is the tally. */
process.on('message', ({ flood, ...target }: Partial<Order>) => {
  if (flood !== undefined) begin(FLOODS[flood].attack, target as Target)
  process.send?.(tally)
})
process.once('disconnect', () => process.exit())
process.send?.('ready')
