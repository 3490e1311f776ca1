import { answers, type Target } from './attack.ts'
import { FLOODS, type FloodName } from './floods.ts'

/** Absent: the flood is under way, and what it got so far is asked for. */
export interface Order extends Target {
  flood: FloodName
}

process.on('message', ({ flood, ...target }: Partial<Order>) => {
  if (flood !== undefined) FLOODS[flood].attack(target as Target)
  process.send?.(answers)
})
process.once('disconnect', () => process.exit())
process.send?.('ready')
