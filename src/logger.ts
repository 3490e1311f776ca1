import { type DestinationStream, type Logger, pino } from 'pino'
import pretty from 'pino-pretty'

/** Lines that wait for a reader of stdout take no more memory than this; what is beyond it is dropped, and counted. */
const MAX_WAITING_BYTES = 16 * 1024 * 1024
/** How long the end of the process waits for such a reader. */
const LAST_LINES_MS = 5_000

/**
 * The program's log: one JSON object a line on stdout; for people when stdout is a terminal.
 * No payload, key or connection string gets into it, by construction: the line of a request has fixed fields, and of an
 * error only what `serializeError` picks. (pino's `redact` would cost a tenth of the time of a request to look for them.)
 */
export function createLogger(level: string, stream: DestinationStream = destination()): Logger {
  const logger = pino(
    {
      level,
      base: undefined,
      timestamp: pino.stdTimeFunctions.isoTime,
      // Names, as collectors expect them, not pino's numbers.
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError },
    },
    stream,
  )
  if (stream instanceof Stdout) stream.tellDropped(logger)
  return logger
}

/** Ends the process when the last line is out. */
export function exit(logger: Logger, code: number): void {
  // At its exit it would wait for whoever reads stdout, for ever.
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), LAST_LINES_MS)
  logger.flush(() => process.exit(code))
}

function destination(): DestinationStream {
  if (process.stdout.isTTY) return pretty({ sync: true, ignore: 'pid,hostname' })
  return new Stdout()
}

/**
 * Lines are gathered for at most half a second: a write call each would cost more than the request it tells of.
 * Has no flushSync, with which pino would write a fatal line at once: past the write that is under way, and so into the
 * middle of another line.
 */
class Stdout implements DestinationStream {
  readonly #stream = pino.destination({
    dest: 1,
    sync: false,
    minLength: 16_383,
    maxLength: MAX_WAITING_BYTES,
    periodicFlush: 500,
  })

  write(line: string): void {
    this.#stream.write(line)
  }

  flush(done: () => void): void {
    this.#stream.flush(done)
  }

  tellDropped(logger: Logger): void {
    let suppressed = 0
    this.#stream.on('drop', () => suppressed++)
    this.#stream.on('drain', () => {
      if (suppressed === 0) return
      logger.warn({ suppressed }, 'stdout was not read in time: lines were dropped')
      suppressed = 0
    })
  }
}

/**
 * PostgreSQL puts a row's values into an error's `detail` and `where`, and into the message of class 22 (data
 * exceptions, PostgreSQL manual, appendix A). Those are payload: only the SQLSTATE and the rest are kept.
 */
function serializeError(error: unknown): Record<string, unknown> {
  // Anything can be thrown.
  if (!(error instanceof Error)) return { type: typeof error, message: String(error) }
  const { code } = error as { code?: unknown }
  const payload = typeof code === 'string' && /^22...$/.test(code)
  return {
    type: error.name,
    message: payload ? 'a value was refused' : error.message,
    code,
    stack: payload ? undefined : error.stack,
    ...(error.cause instanceof Error ? { cause: serializeError(error.cause) } : {}),
  }
}
