import { type DestinationStream, type Logger, pino } from 'pino'

import pretty from 'pino-pretty'

/**
 * The program's log: one JSON object a line on stdout; for people when stdout is a terminal.
 * No payload, key or connection string gets into it, by construction: the line of a request has fixed fields, and of an
 * error only what `serializeError` picks. (pino's `redact` would cost a tenth of the time of a request to look for them.)
 */
export function createLogger(level: string, stream: DestinationStream = destination()): Logger {
  return pino(
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
  return gather(pino.destination({ dest: 1, sync: false }))
}

/** How many characters of lines are gathered, and for how long at most. */
const GATHER = 16_384
const GATHER_MS = 500

/**
 * Gathers lines: a write call each would cost more than the request it tells of. pino's own `minLength` does the same,
 * but counts all that it has gathered anew with each line.
 */
function gather(
  target: ReturnType<typeof pino.destination>,
): DestinationStream & { flush(done?: (error?: Error) => void): void } {
  let lines = ''
  let timer: NodeJS.Timeout | undefined
  const pass = () => {
    clearTimeout(timer)
    timer = undefined
    if (lines !== '') target.write(lines)
    lines = ''
  }
  process.once('exit', () => {
    pass()
    target.flushSync()
  })
  return {
    write(line) {
      lines += line
      if (lines.length >= GATHER) pass()
      else timer ??= setTimeout(pass, GATHER_MS).unref()
    },
    flush(done) {
      pass()
      target.flush(done)
    },
  }
}

/**
 * PostgreSQL puts a row's values into an error's `detail` and `where`, and into the message of class 22 (data
 * exceptions, PostgreSQL manual, appendix A). Those are payload: only the SQLSTATE and the rest are kept.
 */
function serializeError(error: Error & { code?: unknown }): Record<string, unknown> {
  const payload = typeof error.code === 'string' && /^22...$/.test(error.code)
  return {
    type: error.name,
    message: payload ? 'a value was refused' : error.message,
    code: error.code,
    stack: payload ? undefined : error.stack,
    ...(error.cause instanceof Error ? { cause: serializeError(error.cause) } : {}),
  }
}
