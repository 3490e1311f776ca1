import t from 'tap'
import { WORST_RECORDS } from '../helpers/worst-bodies.ts'
import { testEventLoop } from '../helpers/worst-turn.ts'

// 1.85 million short keys blocked the event loop for up to 6 s. Meanwhile, nothing got a response, not even probes.
await testEventLoop(t, WORST_RECORDS)
