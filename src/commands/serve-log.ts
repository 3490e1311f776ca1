import { format } from 'node:util'
import type { Command } from 'commander'
import type { Logger } from 'pino'
import { createLogger, exit } from '../logger.ts'

/** The log level of output through `console`, by its method. */
const CONSOLE = { error: 'error', warn: 'warn', info: 'info', log: 'info', debug: 'debug', trace: 'debug' } as const

/**
 * Opens the log of `serve` before any other code of it is loaded. From here on, all output of the process is lines of the log. A
 * collector parses all of stdout; it would show a plain stack trace as twenty entries.
 * The exception is a crash of V8 (out of memory) or of native code, whose text goes to stderr.
 */
export function openServeLog(command: Command): Logger {
  const logger = createLogger('info')
  // commander then ends the process with exit code 1, and the log is flushed at the exit.
  command.configureOutput({ outputError: (text) => logger.fatal(text.replace(/^error: /, '').trim()) })

  // Unhandled rejections arrive here too (Node.js manual, --unhandled-rejections=throw).
  process.on('uncaughtException', (err) => {
    logger.fatal({ err }, 'uncaught error: the process ends')
    exit(logger, 1)
  })
  // A full disk must not end the process. (Nothing writes to stdout but the log.)
  process.stderr.on('error', () => {})
  // Removes Node's own listener, which writes to stderr.
  process.removeAllListeners('warning')
  process.on('warning', (err) => logger.warn({ err }, 'warning from Node.js or a library'))
  for (const [method, level] of Object.entries(CONSOLE) as [keyof typeof CONSOLE, 'info'][]) {
    console[method] = (...values: unknown[]) => logger[level](format(...values))
  }
  changeLevelOnSignal(logger)
  return logger
}

/** SIGUSR2 sets the log level to debug. The next SIGUSR2 sets it back. */
function changeLevelOnSignal(logger: Logger): void {
  let before: string | undefined
  process.on('SIGUSR2', () => {
    const to = before ?? 'debug'
    before = before === undefined ? logger.level : undefined
    // Logged while the level is debug, so that the line appears whatever the other level is.
    if (to === 'debug') logger.level = to
    logger.info({ signal: 'SIGUSR2' }, `the log level is now ${to}`)
    logger.level = to
  })
}
