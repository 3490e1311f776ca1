// By default, tap loads code into every process that a test starts, in order to record which modules it uses and to measure coverage.
// Nothing needs this in `npm test`. Without it, the processes run as in production, and start faster.
import processOnSpawn from 'process-on-spawn'

processOnSpawn.removeAllListeners()
