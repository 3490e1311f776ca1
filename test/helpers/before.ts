// tap runs this before the test files. It prepares the servers, and a migrated template on each.
import { dropLeftovers, ensureTemplate, openTestServers } from './postgres.ts'
import { forgetSkipped } from './skipping.ts'

forgetSkipped()
for (const server of await openTestServers()) {
  await dropLeftovers(server)
  await ensureTemplate(server)
}
