import t from 'tap'
import { WORST_FORMATS } from '../helpers/worst-bodies.ts'
import { testTurns } from '../helpers/worst-turn.ts'

// Lines that are no JSON took half a second a block, and 1.8 MB of empty frames of zstd half a minute of processor time.
await testTurns(t, WORST_FORMATS)
