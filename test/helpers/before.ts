// tap runs this before the test files. It prepares one server and one migrated template for all of them.
import { dropLeftovers, ensureTemplate, openTestServer } from './postgres.ts'
import { forgetSkipped } from './skipping.ts'

forgetSkipped()
const server = await openTestServer()
await dropLeftovers(server)
await ensureTemplate(server)
