import t from 'tap'
import { WORST_BATCHES } from '../helpers/worst-bodies.ts'
import { testEventLoop } from '../helpers/worst-turn.ts'

// Not only parsing a batch takes time, but also packing its rows and writing their results.
await testEventLoop(t, WORST_BATCHES)
