import { type DestinationStream, type Logger, pino } from 'pino'
import pretty from 'pino-pretty'
import { LineWriter } from './lib/line-writer.ts'

/** Maximum memory for lines that wait for the reader of stdout. Further lines are dropped and counted. */
const MAX_WAITING_BYTES = 16 * 1024 * 1024
/** How long the process waits for that reader at its end. */
const LAST_LINES_MS = 5_000

/** The stream of each logger, which pino keeps private. */
const streams = new WeakMap<Logger, DestinationStream>()

/**
 * The program's log: one JSON object per line on stdout, or text for people if stdout is a terminal.
 * It contains no payload, key or connection string by construction: the line of a request has fixed fields, and an error only
 * those that `serializeError` picks. (Searching for secrets with pino's `redact` would take a tenth of the time of a request.)
 */
export function createLogger(level: string, stream: DestinationStream = destination()): Logger {
  const logger = pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${isoNow()}"`,
      // Level names, which collectors expect, instead of pino's numbers.
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError },
      // Fastify logs with a child of the logger.
      onChild: (child) => void streams.set(child, stream),
    },
    stream,
  )
  streams.set(logger, stream)
  if (stream instanceof Stdout) stream.reportDropped(logger)
  return logger
}

/** Calls `listener` at the end of the process if its last lines could not be written. */
export function onLostLines(logger: Logger, listener: (reason: Error) => void): void {
  const stream = streams.get(logger)
  if (stream instanceof Stdout) stream.onLost = listener
}

/** Ends the process after its last line is written. */
export function exit(logger: Logger, code: number): void {
  // If the reader of stdout stalls, the exit would wait forever.
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), LAST_LINES_MS)
  logger.flush(() => process.exit(code))
}

/**
 * Logs a line in pino's format whose fields are already JSON text. For the one line of a request, serializing an object would
 * cost more than everything else about it.
 * @param logger made by `createLogger`, or a child of it
 * @param fields members of the JSON object, without the braces
 */
export function logLine(logger: Logger, level: 'debug' | 'info', fields: string, msg: string): void {
  if (!logger.isLevelEnabled(level)) return
  const stream = streams.get(logger) as DestinationStream
  stream.write(`{"level":"${level}","time":"${isoNow()}",${fields},"msg":"${msg}"}\n`)
}

let last = { at: 0, text: '' }

/** The time in RFC 3339; formatted once per millisecond. */
function isoNow(): string {
  const at = Date.now()
  if (last.at !== at) last = { at, text: new Date(at).toISOString() }
  return last.text
}

function destination(): DestinationStream {
  return process.stdout.isTTY ? forPeople() : new Stdout()
}

/** Text for a terminal. A request is one line: `POST /v1/records 201 in 3.2 ms {"counts":…}`. @param to default: stdout */
export function forPeople(to?: NodeJS.WritableStream): DestinationStream {
  return pretty({
    sync: true,
    singleLine: true,
    translateTime: 'SYS:HH:MM:ss.l',
    ignore: 'requestId,traceId,spanId,method,route,status,durationMs',
    ...(to === undefined ? {} : { destination: to }),
    messageFormat: ({ msg, method, route, status, durationMs }) =>
      status === undefined ? String(msg) : `${method} ${route ?? '(no such route)'} ${status} in ${durationMs} ms`,
  })
}

/** Lines are buffered up to this many characters, and for at most this long. */
const BUFFER_LENGTH = 65_536
const BUFFER_MS = 500

/**
 * Buffers lines: one write call per line would cost more than the request itself. pino's own `minLength` does the same, but
 * measures the whole buffer again for each line.
 * It has no flushSync, because pino would use it to write a fatal line at once, ahead of a running write, and so into the middle
 * of another line.
 */
class Stdout implements DestinationStream {
  readonly #target = new LineWriter(1, { maxBytes: MAX_WAITING_BYTES, onDropped: (lines) => this.#onDropped(lines) })
  #onDropped = (_lines: number) => {}
  onLost = (_reason: Error) => {}
  #lines = ''
  #timer: NodeJS.Timeout | undefined

  constructor() {
    // The last lines are written synchronously: an asynchronous write would not end before the process.
    process.once('exit', () => {
      const reason = this.#target.end(this.#lines)
      if (reason !== undefined) this.onLost(reason)
    })
  }

  write(line: string): void {
    this.#lines += line
    if (this.#lines.length >= BUFFER_LENGTH) this.#handOver()
    else this.#timer ??= setTimeout(() => this.#handOver(), BUFFER_MS).unref()
  }

  flush(done: () => void): void {
    this.#handOver()
    this.#target.flush(done)
  }

  reportDropped(logger: Logger): void {
    this.#onDropped = (suppressed) =>
      logger.warn({ suppressed }, 'stdout is slow or its disk is full: lines were dropped')
  }

  #handOver(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#lines !== '') this.#target.write(this.#lines)
    this.#lines = ''
  }
}

/**
 * PostgreSQL puts a row's values into an error's `detail` and `where`, and into the message of class 22 (data
 * exceptions, PostgreSQL manual, appendix A). Those values are payload, so these parts are not logged.
 */
function serializeError(error: unknown): Record<string, unknown> {
  // JavaScript can throw any value.
  if (!(error instanceof Error)) return { type: typeof error, message: String(error) }
  const { code } = error as { code?: unknown }
  const payload = typeof code === 'string' && /^22...$/.test(code)
  return {
    type: error.name,
    message: payload ? 'PostgreSQL rejected a value' : error.message,
    code,
    stack: payload ? undefined : error.stack,
    ...(error.cause instanceof Error ? { cause: serializeError(error.cause) } : {}),
  }
}
