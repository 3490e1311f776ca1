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
      timestamp: () => `,"time":"${isoNow()}"`,
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

/**
 * Logs a line whose fields are JSON text already, as pino would: for the one line a request, where taking an object apart
 * costs more than all the rest of it.
 * @param fields members, without the braces
 */
export function logLine(logger: Logger, level: 'debug' | 'info', fields: string, msg: string): void {
  if (!logger.isLevelEnabled(level)) return
  const stream = logger[pino.symbols.streamSym as never] as DestinationStream
  stream.write(`{"level":"${level}","time":"${isoNow()}",${fields},"msg":"${msg}"}\n`)
}

let last = { at: 0, text: '' }

/** The time in RFC 3339; written out once a millisecond. */
function isoNow(): string {
  const at = Date.now()
  if (last.at !== at) last = { at, text: new Date(at).toISOString() }
  return last.text
}

function destination(): DestinationStream {
  if (process.stdout.isTTY) return pretty({ sync: true, ignore: 'pid,hostname' })
  return new Stdout()
}

/** How many characters of lines are gathered, and for how long at most. */
const GATHER = 65_536
const GATHER_MS = 500

/**
 * Gathers lines: a write call each would cost more than the request it tells of. pino's own `minLength` does the same,
 * but counts all that it has gathered anew with each line.
 * Has no flushSync, with which pino would write a fatal line at once: past the write that is under way, and so into the
 * middle of another line.
 */
class Stdout implements DestinationStream {
  // Of a minLength of 0 it believes that there is never anything to flush.
  readonly #target = pino.destination({ dest: 1, sync: false, minLength: 1, maxLength: MAX_WAITING_BYTES })
  #lines = ''
  #timer: NodeJS.Timeout | undefined

  constructor() {
    process.once('exit', () => {
      // Nothing begins any more that does not end at once.
      Object.assign(this.#target, { minLength: Number.POSITIVE_INFINITY })
      this.#pass()
      this.#target.flushSync()
    })
  }

  write(line: string): void {
    this.#lines += line
    if (this.#lines.length >= GATHER) this.#pass()
    else this.#timer ??= setTimeout(() => this.#pass(), GATHER_MS).unref()
  }

  flush(done: () => void): void {
    this.#pass()
    this.#target.flush(done)
  }

  tellDropped(logger: Logger): void {
    let suppressed = 0
    this.#target.on('drop', (lines: string) => {
      suppressed += lines.split('\n').length - 1
    })
    this.#target.on('drain', () => {
      if (suppressed === 0) return
      logger.warn({ suppressed }, 'stdout was not read in time: lines were dropped')
      suppressed = 0
    })
  }

  #pass(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#lines !== '') this.#target.write(this.#lines)
    this.#lines = ''
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
