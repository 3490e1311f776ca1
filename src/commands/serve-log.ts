import { format } from 'node:util'
import type { Command } from 'commander'
import type { Logger } from 'pino'
import { createLogger, exit } from '../logger.ts'

/** Of what is printed past the log, by the method of console. */
const CONSOLE = { error: 'error', warn: 'warn', info: 'info', log: 'info', debug: 'debug', trace: 'debug' } as const

/**
 * Opens the log of `serve`, before anything else of it is loaded. From here on whatever the process has to say is a line
 * of it: a collector parses all of stdout, or shows half of a stack trace as twenty entries.
 * What cannot be: a crash of V8 itself (out of memory) or of native code, whose text goes to stderr.
 */
export function openServeLog(command: Command): Logger {
  const logger = createLogger('info')
  // commander then ends the process with 1, and the log is written out as it does.
  command.configureOutput({ outputError: (text) => logger.fatal(text.replace(/^error: /, '').trim()) })

  // Rejections nobody handles arrive here too (Node manual, --unhandled-rejections=throw).
  process.on('uncaughtException', (err) => {
    logger.fatal({ err }, 'a defect: the process ends')
    exit(logger, 1)
  })
  // Node's own listener writes to stderr.
  process.removeAllListeners('warning')
  process.on('warning', (err) => logger.warn({ err }, 'a warning of Node.js or a library'))
  for (const [method, level] of Object.entries(CONSOLE) as [keyof typeof CONSOLE, 'info'][]) {
    console[method] = (...values: unknown[]) => logger[level](format(...values))
  }
  changeLevelOnSignal(logger)
  return logger
}

/** SIGUSR2: everything (debug) is logged, until the next one. */
function changeLevelOnSignal(logger: Logger): void {
  let before: string | undefined
  process.on('SIGUSR2', () => {
    const to = before ?? 'debug'
    before = before === undefined ? logger.level : undefined
    // Told while the level is debug, whatever the other one is: so it is seen.
    if (to === 'debug') logger.level = to
    logger.info({ signal: 'SIGUSR2' }, `the log level is ${to} from here on`)
    logger.level = to
  })
}
