import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Logger } from 'pino'
import type { ProblemCode } from '../problems.ts'

/** Maximum number of lines per second about refusals with the same code: enough to see who sends them and what is wrong. */
const LINES_PER_SECOND = 10

/**
 * Keeps a flood of refusals from becoming a flood of log lines. Otherwise a client that sends nonsense at full speed would
 * fill the node's disk and push out the lines that matter. Refusals beyond the limit are logged as a number. The limit is per
 * code, so that a flood of one kind hides no other. At the level debug, all refusals are logged.
 */
export default fp(
  async function logThrottle(app: FastifyInstance) {
    const log = app.log as Logger
    const seen = new Map<ProblemCode, number>()
    let second: NodeJS.Timeout | undefined

    app.decorate('admitToLog', (code) => {
      // Each of these is a bug in Sluice, and its response says that the log has the reason.
      if (code === 'internal_error' || log.isLevelEnabled('debug')) return true
      const lines = (seen.get(code) ?? 0) + 1
      seen.set(code, lines)
      // One timer per second, and none while nothing is refused.
      second ??= setTimeout(endSecond, 1000).unref()
      return lines <= LINES_PER_SECOND
    })
    app.addHook('onClose', async () => endSecond())

    function endSecond(): void {
      clearTimeout(second)
      second = undefined
      for (const [code, lines] of seen) {
        const suppressed = lines - LINES_PER_SECOND
        if (suppressed > 0) log.warn({ code, suppressed }, 'more requests were refused than are logged one by one')
      }
      seen.clear()
    }
  },
  { name: 'log-throttle' },
)

declare module 'fastify' {
  interface FastifyInstance {
    /** Whether another refusal with this code may be logged. Call it once for each refusal: it counts those that may not. */
    admitToLog(code: ProblemCode): boolean
  }
}
