// tap runs this after the test files. It stops the servers, unless another run of the tests uses them, and prints what was skipped.
import { openTestServers } from './postgres.ts'
import { describeSkipped } from './skipping.ts'

for (const server of await openTestServers()) await server.release()
const skipped = describeSkipped()
if (skipped !== undefined) console.error(skipped)
