import t from 'tap'
import { WORST_RECORDS } from '../helpers/worst-bodies.ts'
import { testTurns } from '../helpers/worst-turn.ts'

// 1.85 million short keys took up to 6 s of one turn of the event loop. Nobody was answered meanwhile, probes neither.
await testTurns(t, WORST_RECORDS)
