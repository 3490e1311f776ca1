import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Logger } from 'pino'
import type { ProblemCode } from '../lib/problems.ts'

/** Lines about refusals with the same code, in a second: enough to see who it is and what is wrong. */
const LINES_A_SECOND = 10

/**
 * Keeps a flood of refusals from becoming a flood of lines: whoever sends nonsense as fast as it can would else fill the
 * node's disk, and push the lines that matter out of it. What is not told one by one is told as a number, so that nothing
 * goes unsaid. By code, so that a flood of one kind hides no other; at the level debug all is told.
 */
export default fp(
  async function refusals(app: FastifyInstance) {
    const log = app.log as Logger
    const seen = new Map<ProblemCode, number>()
    let second: NodeJS.Timeout | undefined

    app.decorate('hasRoomInLog', (code) => {
      // Each of them is a defect of ours, and its answer says that the log has the reason.
      if (code === 'internal_error' || log.isLevelEnabled('debug')) return true
      const lines = (seen.get(code) ?? 0) + 1
      seen.set(code, lines)
      // One timer a second, and none while nothing is refused.
      second ??= setTimeout(endSecond, 1000).unref()
      return lines <= LINES_A_SECOND
    })
    app.addHook('onClose', async () => endSecond())

    function endSecond(): void {
      clearTimeout(second)
      second = undefined
      for (const [code, lines] of seen) {
        const suppressed = lines - LINES_A_SECOND
        if (suppressed > 0) log.warn({ code, suppressed }, 'more requests were refused than are told one by one')
      }
      seen.clear()
    }
  },
  { name: 'refusals' },
)

declare module 'fastify' {
  interface FastifyInstance {
    /** Is there room for the lines about another refusal? To be asked once for each; counts those there is none for. */
    hasRoomInLog(code: ProblemCode): boolean
  }
}
