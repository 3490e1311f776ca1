import { lookOfBytes } from '../lib/looks-like.ts'
import { Problem } from '../problems.ts'

const TOO_LARGE_WINDOW =
  'The zstd window of the body is larger than 8 MiB, the maximum for HTTP (RFC 9659). Compress it with zstd -19 or lower and without --long, or with --long=23.'

/**
 * Translates an error of an inflater into a problem. Other errors, such as that of a lost connection, stay as they are.
 * @param encoding as in Content-Encoding
 * @param head the first bytes of the body, or of a later zstd frame
 * @param isLater whether they are of a later frame
 */
export function toInflateProblem(error: Error, encoding: string, head: Buffer, isLater: boolean): Error {
  const { code = '' } = error as NodeJS.ErrnoException
  // The error codes of zlib, brotli and zstd.
  if (!/^(?:Z_|ERR__|ZSTD_)/.test(code)) return error
  if (code === 'ZSTD_error_frameParameter_windowTooLarge')
    return new Problem('unsupported_encoding', TOO_LARGE_WINDOW, {
      headers: { 'accept-encoding': 'gzip, br, zstd, deflate' },
    })
  const reason = isTrailing(error, code, head, isLater)
    ? 'there are more bytes after the end of the compressed data. Send nothing after it'
    : reasonOf(code, encoding, head)
  return new Problem('corrupt_encoding', `The body does not match its Content-Encoding, ${encoding}: ${reason}.`)
}

/** Whatever follows the data is read as the header of another gzip member or zstd frame. */
function isTrailing({ message }: Error, code: string, head: Buffer, isLater: boolean): boolean {
  const isLaterMember = head.toString('hex', 0, 2) === '1f8b' && message === 'incorrect header check'
  return code === 'ERR__TRAILING_BYTES' || isLaterMember || (isLater && code === 'ZSTD_error_prefix_unknown')
}

/** What the first bytes are if they are not those of compressed data. */
const HEADS: [pattern: RegExp, reason: string][] = [
  [/^(?:H4sI|KLUv|eJ)/, 'it is base64. Send the bytes themselves'],
  [/^(?:1f8b08|28b52f|789c)/i, 'it is hexadecimal. Send the bytes themselves'],
  // The second or third byte of each format is no ASCII.
  [
    /^..?(?:\xef\xbf\xbd|\xc2[\x80-\xbf])/s,
    'a program read the bytes as text. Send them as they are (curl --data-binary @FILE)',
  ],
  [/^[\t\n\r -~]{4,}$|^\s*[[{"]/, 'it is not compressed. Compress it, or omit Content-Encoding'],
]

function reasonOf(code: string, encoding: string, head: Buffer): string {
  if (head.length === 0) return 'it is empty'
  const { name } = lookOfBytes(head) ?? {}
  if (name !== undefined && !name.includes(encoding)) return `it looks like ${name}. Correct Content-Encoding`
  const [, reason] = HEADS.find(([pattern]) => pattern.test(head.toString('latin1'))) ?? []
  if (reason !== undefined) return reason
  if (code === 'Z_BUF_ERROR') return 'it is truncated. Send all of it, and nothing after it'
  if (encoding === 'deflate' && name === undefined)
    return 'it has no zlib header. In HTTP, deflate is the zlib format (RFC 9110, section 8.4.1.2), not raw deflate'
  return 'it is damaged. Compress it again'
}
