import { METHODS } from 'node:http'
import { Problem } from '../../problems.ts'

/** An error of Node's HTTP parser, or of a connection. */
export interface ParseError extends Error {
  code?: string
  /** The parser's own description of the fault. */
  reason?: string
  /** The bytes that it was reading, perhaps with earlier requests before them. */
  rawPacket?: Buffer
  /** Where it stopped in these bytes. */
  bytesParsed?: number
}

/** A method is a token (RFC 9110, section 9.1), followed by a space. In a slow request, the rest may not have arrived. */
const METHOD = /^[\w!#$%&'*+.^`|~-]+(?= |$)/
const MAX_METHOD_LENGTH = 32

/** The content type of a TLS handshake, and the major version of its record (RFC 8446, section 5.1). */
const TLS = Buffer.of(0x16, 0x03)

const ORIGIN = '\norigin:'

/** The header Origin, if it is in the bytes that were read: a page should be able to read that its URL is too long. */
export function originOf({ rawPacket }: ParseError): string | undefined {
  const text = rawPacket?.toString('latin1') ?? ''
  const start = text.toLowerCase().indexOf(ORIGIN)
  const end = text.indexOf('\r', start)
  return start === -1 || end === -1 ? undefined : text.slice(start + ORIGIN.length, end).trim()
}

/** Translates an error of Node's HTTP parser into a problem. */
export function toParseProblem(error: ParseError): Problem {
  const { code, reason, rawPacket = Buffer.of(), bytesParsed = 0 } = error
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return new Problem('request_timeout', 'The headers arrived too slowly.')
  if (code === 'HPE_INVALID_EOF_STATE')
    return new Problem(
      'incomplete_body',
      'The connection was closed before the request was complete. Send it again; if that fails too, Content-Length may be too large.',
    )
  if (code === 'HPE_HEADER_OVERFLOW') return tooLarge(rawPacket, bytesParsed)
  if (code === 'HPE_PAUSED_H2_UPGRADE' || reason === 'Invalid HTTP version')
    return new Problem('http_version_not_supported', 'Only HTTP/1.1 and HTTP/1.0 are supported (curl --http1.1).')
  if (code === 'HPE_INVALID_METHOD') {
    const start = startOfLine(rawPacket, bytesParsed)
    if (rawPacket.subarray(start, start + TLS.length).equals(TLS))
      return invalid('it begins like TLS, but this port speaks plain HTTP. Use http://')
    const [method] = METHOD.exec(rawPacket.toString('latin1', start)) ?? []
    if (method !== undefined) return unknownMethod(method)
  }
  return invalid(reason ?? 'it cannot be parsed')
}

const invalid = (why: string) => new Problem('invalid_request', `The request is not valid HTTP: ${why}.`)

const startOfLine = (packet: Buffer, position: number) => packet.subarray(0, position).lastIndexOf('\n') + 1

/**
 * The parser stops after the part that is too much. It is the target if the line so far is a method and a target, or, when the
 * line began in earlier bytes, if a space follows (RFC 9112, section 3).
 */
function tooLarge(packet: Buffer, position: number): Problem {
  const line = packet.toString('latin1', startOfLine(packet, position), position)
  if (/^[^\s:]+ \S*$/.test(line) || (packet[position] === 0x20 && !line.endsWith(':')))
    return new Problem(
      'uri_too_long',
      'The path and query are too long: with the headers, they may be at most 16 KiB. Use fewer or shorter filters.',
    )
  return new Problem(
    'headers_too_large',
    'The request line and the headers are too large: they may be at most 16 KiB together. Send a CloudEvent with long attributes in structured mode.',
  )
}

function unknownMethod(method: string): Problem {
  const hint = METHODS.includes(method.toUpperCase()) ? ' Methods are written in upper case.' : ''
  return new Problem('not_implemented', `The method ${method.slice(0, MAX_METHOD_LENGTH)} is unknown.${hint}`)
}
