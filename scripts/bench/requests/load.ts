import { measure, type Order } from './measure.ts'

process.on('message', async (order: Order) => process.send?.(await measure(order)))
process.once('disconnect', () => process.exit())
process.send?.('ready')
