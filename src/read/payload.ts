import type { StoredRecord } from '../data/select-records.ts'
import { before } from '../lib/before.ts'

/** Clients and proxies have little room for headers. */
const MAX_TYPE_LENGTH = 1_024

/** The media type of a record's own payload, as it can be sent in a header. */
export function payloadType({ datacontenttype, data_base64 }: StoredRecord): string {
  // CloudEvents JSON format 1.0.2, section 3.1: without datacontenttype, data is JSON.
  if (datacontenttype === null) return data_base64 === null ? 'application/json' : 'application/octet-stream'
  // A quoted parameter may contain anything.
  const isSendable = datacontenttype.length <= MAX_TYPE_LENGTH && /^[\t\x20-\x7e]+$/.test(datacontenttype)
  const type = isSendable ? datacontenttype : before(datacontenttype, ';').trim()
  return type.length <= MAX_TYPE_LENGTH ? type : 'application/octet-stream'
}

/** The payload alone, as the body of the event in binary mode: bytes as they are, text without its quotes, other JSON as text. */
export function payloadOf({ data, data_base64, datacontenttype }: StoredRecord): Buffer {
  if (data_base64 !== null) return Buffer.from(data_base64, 'base64')
  const isText = data?.startsWith('"') === true && !/^[^;]*[/+]json\s*(?:;|$)/i.test(datacontenttype ?? 'a/json')
  return Buffer.from(isText ? JSON.parse(data) : (data ?? ''))
}
