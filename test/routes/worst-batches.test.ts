import t from 'tap'
import { WORST_BATCHES } from '../helpers/worst-bodies.ts'
import { testTurns } from '../helpers/worst-turn.ts'

// Not only reading a batch takes its time: so do packing its rows, and writing what became of each.
await testTurns(t, WORST_BATCHES)
