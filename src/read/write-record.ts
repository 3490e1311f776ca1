import type { StoredRecord } from '../data/select-records.ts'
import { encodeOffset } from '../lib/offset.ts'
import { toRfc3339 } from '../lib/pg-time.ts'

/**
 * A record in JSON; data/record-line.ts does the same in SQL. JSON.stringify is not used for the whole record, because the payload
 * is inserted as text: parsing it would round its numbers.
 */
export function writeRecord(record: StoredRecord): string {
  return `${openEvent(record)},"receivedAt":"${toRfc3339(record.received_at)}","cursor":"${cursorOf(record)}"}`
}

/** A record as a CloudEvent in JSON, without the members that the server adds: `receivedAt` is not a valid attribute name. */
export function writeCloudEvent(record: StoredRecord): string {
  return `${openEvent(record)}}`
}

/** The event, without its last brace. */
function openEvent(record: StoredRecord): string {
  let text = `{"specversion":"1.0","source":${JSON.stringify(record.source)},"id":${JSON.stringify(record.id)},"type":${JSON.stringify(record.type)}`
  text += `,"time":"${timeOf(record)}"`
  for (const name of ['subject', 'dataschema', 'datacontenttype'] as const) {
    if (record[name] !== null) text += `,"${name}":${JSON.stringify(record[name])}`
  }
  // A JSON object, without its braces.
  if (record.extensions !== null) text += `,${record.extensions.slice(1, -1)}`
  if (record.data !== null) text += `,"data":${record.data}`
  if (record.data_base64 !== null) text += `,"data_base64":"${record.data_base64}"`
  return text
}

/** The time that the client sent, or else the time of receipt. */
export const timeOf = ({ time, received_at }: StoredRecord): string => toRfc3339(time ?? received_at)

export const cursorOf = ({ epoch, xid, n }: StoredRecord): string => encodeOffset({ epoch, xid, n: Number(n) })
