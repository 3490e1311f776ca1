import { lookOfBytes } from '../lib/looks-like.ts'
import { Problem } from '../problems.ts'

const TOO_LARGE_WINDOW =
  'The zstd window of the body is larger than 8 MiB, the maximum for HTTP (RFC 9659). Compress it with zstd -19 or lower and without --long, or with --long=23.'

/**
 * Translates an error of an inflater into a problem. Other errors, such as that of a lost connection, stay as they are.
 * @param encoding as in Content-Encoding
 * @param head the first bytes of the body, or of a later zstd frame
 */
export function toInflateProblem(error: Error, encoding: string, head: Buffer): Error {
  const { code = '' } = error as NodeJS.ErrnoException
  // The error codes of zlib, brotli and zstd.
  if (!/^(?:Z_|ERR__|ZSTD_)/.test(code)) return error
  if (code === 'ZSTD_error_frameParameter_windowTooLarge')
    return new Problem('unsupported_encoding', TOO_LARGE_WINDOW, {
      headers: { 'accept-encoding': 'gzip, br, zstd, deflate' },
    })
  return new Problem(
    'corrupt_encoding',
    `The body does not match its Content-Encoding, ${encoding}: ${reasonOf(code, encoding, head)}.`,
  )
}

function reasonOf(code: string, encoding: string, head: Buffer): string {
  if (code === 'ERR__TRAILING_BYTES') return 'there are more bytes after the end of the compressed data'
  if (head.length === 0) return 'it is empty'
  if (/^\s*[[{"]/.test(head.toString('latin1'))) return 'it is not compressed. Compress it, or omit Content-Encoding'
  const { name } = lookOfBytes(head) ?? {}
  if (name !== undefined && !name.includes(encoding)) return `it looks like ${name}. Correct Content-Encoding`
  if (code === 'Z_BUF_ERROR') return 'it is truncated. Send all of it'
  if (encoding === 'deflate' && name === undefined)
    return 'it has no zlib header. In HTTP, deflate is the zlib format (RFC 9110, section 8.4.1.2), not raw deflate'
  return 'it is damaged. Send the compressed bytes as they are, not as text'
}
