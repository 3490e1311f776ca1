import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

/** Open files that are kept for the database, the log and Node.js itself, which fails without one. */
const RESERVED_FILES = 100
/** The log has at most one line about refused connections in this time. */
const LOG_MS = 60_000

/**
 * Every connection is an open file. Connections above the limit of the process (ulimit -n) are closed at once, a little before
 * nothing else could be opened either: then a flood of connections would end the process.
 */
export default fp(async function connections(app: FastifyInstance) {
  const files = maxOpenFiles()
  if (files === undefined) return
  app.server.maxConnections = Math.max(files - RESERVED_FILES, Math.floor(files / 2))
  let loggedAt = Number.NEGATIVE_INFINITY
  app.server.on('drop', () => {
    if (performance.now() - loggedAt < LOG_MS) return
    loggedAt = performance.now()
    app.log.warn(
      `${app.server.maxConnections} connections are open, so further ones are closed. To allow more, raise the limit of open files (ulimit -n)`,
    )
  })
})

/** Undefined if there is no limit, or none that can be read. */
function maxOpenFiles(): number | undefined {
  try {
    const soft = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
    return soft === undefined ? undefined : Number(soft)
  } catch {
    return undefined
  }
}
