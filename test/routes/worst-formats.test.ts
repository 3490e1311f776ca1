import t from 'tap'
import { WORST_FORMATS } from '../helpers/worst-bodies.ts'
import { testEventLoop } from '../helpers/worst-turn.ts'

// A block of lines that are not JSON took half a second, and 1.8 MB of empty zstd frames took half a minute of processor time.
await testEventLoop(t, WORST_FORMATS)
