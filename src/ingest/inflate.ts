import { type Readable, Transform } from 'node:stream'
import { constants, createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib'
import { Problem } from '../lib/problems.ts'

const INFLATERS = {
  gzip: createGunzip,
  br: createBrotliDecompress,
  // RFC 9659: windows of at most 8 MiB between strangers. The format itself allows ones that take gigabytes of memory.
  zstd: () => createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: 23 } }),
  // RFC 9110, section 8.4.1.2: the zlib format, whatever the name says.
  deflate: createInflate,
}

export type Encoding = keyof typeof INFLATERS

export const ENCODINGS = Object.keys(INFLATERS) as Encoding[]

/**
 * Reads Content-Encoding.
 * @throws Problem unsupported_encoding for one that we do not know, and for several on top of each other: they multiply
 * what a small body can inflate to, and nobody needs them
 */
export function readEncoding(header: string | undefined): Encoding | undefined {
  const name = header?.trim().toLowerCase() ?? ''
  if (name === '' || name === 'identity') return undefined
  const encoding = ENCODINGS.find((one) => one === name.replace(/^x-gzip$/, 'gzip'))
  if (encoding !== undefined) return encoding
  // RFC 9110, section 12.5.3: a 415 tells what would have been taken.
  const headers = { 'accept-encoding': ENCODINGS.join(', ') }
  throw new Problem(
    'unsupported_encoding',
    `Content-Encoding ${header} is not supported; one of ${ENCODINGS.join(', ')} is.`,
    { headers },
  )
}

/** What a body may inflate to, as a multiple of itself; JSON is rarely past 30. */
const MAX_RATIO = 200
/** … once it is past this many bytes: a small body may well be one long run of blanks. */
const RATIO_COUNTS_FROM = 1024 * 1024

/** The body, inflated as it is read and no faster. What goes wrong is an 'error' of the stream: see `toBodyProblem`. */
export function inflate(body: Readable, encoding: Encoding | undefined): Readable {
  if (encoding === undefined) return body
  const inflater = INFLATERS[encoding]()
  let inflated = 0
  const guard = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      inflated += chunk.length
      if (inflated > RATIO_COUNTS_FROM && inflated > MAX_RATIO * inflater.bytesWritten) {
        done(new Problem('inflates_too_far', `The body inflates to more than ${MAX_RATIO} times its size.`))
      } else done(null, chunk)
    },
  })
  // Not stream.pipeline, which would destroy the request with the guard, and with it the connection for the answer.
  const fail = (error: Error) => guard.destroy(error)
  body.on('error', fail).on('close', () => body.readableEnded || fail(new Error('the sender is gone')))
  inflater.on('error', fail)
  guard.on('close', () => {
    body.unpipe(inflater)
    inflater.destroy()
    body.resume()
  })
  body.pipe(inflater).pipe(guard)
  return guard
}

/** Nothing more of a body is wanted. What still comes is read and dropped, so that its sender gets to read the answer. */
export function abandon(stream: Readable): void {
  // The connection may break as well: nobody waits for that any more.
  stream.on('error', () => {})
  if (stream instanceof Transform) stream.destroy()
  else stream.resume()
}

/** A body's stream broke: whose fault was it? */
export function toBodyProblem(error: unknown): Problem {
  if (error instanceof Problem) return error
  const code = String((error as NodeJS.ErrnoException | undefined)?.code)
  // zlib, brotli and zstd, each in its own way.
  if (/^(?:Z_|ERR__|ZSTD_)/.test(code)) {
    return new Problem(
      'corrupt_encoding',
      'The body is not what Content-Encoding says: it is damaged or was cut short.',
    )
  }
  return new Problem('incomplete_body', 'The connection was lost before the body was complete.', { cause: error })
}
