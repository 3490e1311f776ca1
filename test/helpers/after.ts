// tap runs this after the test files. It stops the server, unless another run of the tests uses it, and prints what was skipped.
import { openTestServer } from './postgres.ts'
import { describeSkipped } from './skipping.ts'

const server = await openTestServer()
await server.release()
const skipped = describeSkipped()
if (skipped !== undefined) console.error(skipped)
