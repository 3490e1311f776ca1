import type { Logger } from 'pino'
import { createLogger, onLostLines } from '../logger.ts'

/**
 * The log of a command that does its work and ends. If lines cannot be written, such as to a file on a full disk, it says so on
 * stderr. The exit code stays that of the work: a migration that succeeded must not count as failed, and retention, which frees
 * space, must not fail for lack of space.
 * @param options isResult: the lines are what the command is for, so losing them is a failure
 */
export function openCommandLog(level: string, { isResult = false } = {}): Logger {
  const logger = createLogger(level)
  onLostLines(logger, (reason) => {
    console.error(`sluice: log lines could not be written to stdout: ${reason.message}.`)
    if (isResult) process.exitCode = 1
  })
  return logger
}
