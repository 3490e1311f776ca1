// By default, tap loads code into every test process, and into every process that a test starts, in order to record which modules it
// uses, to measure coverage, and to map what runs to its source. Nothing needs this in `npm test`: Node.js runs our sources as they are.
// Without it, the processes start faster, and those that a test starts run as in production.
import processOnSpawn from 'process-on-spawn'

processOnSpawn.removeAllListeners()
// The variable _TAPJS_PROCESSINFO_EXCLUDE_ in package.json does the rest: no module is recorded.
process.setSourceMapsEnabled(false)
