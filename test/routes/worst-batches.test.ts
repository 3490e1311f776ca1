import t from 'tap'
import { WORST_BATCHES } from '../helpers/worst-bodies.ts'
import { testTurns } from '../helpers/worst-turn.ts'

// Not only parsing a batch takes time, but also packing its rows and writing their results.
await testTurns(t, WORST_BATCHES)
