import type { Content } from './contents.ts'
import type { Random } from './random.ts'

/** @param id undefined if the server makes the id @returns the record as JSON on one line */
export function writeJson(
  random: Random,
  content: Content,
  source: string,
  id: string | undefined,
  isEvent: boolean,
): string {
  const { type, subject, time, dataschema, datacontenttype, extensions, data, base64 } = content
  const attributes = {
    ...(isEvent || random.chance(0.2) ? { specversion: '1.0' } : {}),
    ...{ source, id, type, subject, time: time?.sent, dataschema, datacontenttype, ...extensions, data_base64: base64 },
  }
  const members = Object.entries(attributes).flatMap(([name, value]) =>
    value === undefined ? [] : [`${JSON.stringify(name)}:${JSON.stringify(value)}`],
  )
  // At a random index among the members.
  if (data !== undefined) members.splice(random.int(0, members.length), 0, `"data":${data}`)
  return `{${members.join()}}`
}

/** Binary mode of CloudEvents: the attributes are percent-encoded headers (HTTP binding 1.0.2, section 3.1.3.2). */
export function writeBinary(
  content: Content,
  source: string,
  id: string,
): { headers: Record<string, string>; body: Buffer } {
  const { type, subject, time, datacontenttype = '', extensions, data = '', base64 } = content
  const attributes = { specversion: '1.0', source, id, type, subject, time: time?.sent, ...extensions }
  const headers = Object.entries(attributes).flatMap(([name, value]) =>
    value === undefined ? [] : [[`ce-${name}`, encodeURIComponent(String(value))] as const],
  )
  const text = datacontenttype.startsWith('text/') ? JSON.parse(data) : data
  const body = base64 === undefined ? Buffer.from(text) : Buffer.from(base64, 'base64')
  return { headers: { 'content-type': datacontenttype, ...Object.fromEntries(headers) }, body }
}
