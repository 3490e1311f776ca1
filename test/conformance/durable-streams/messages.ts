/** What a message of the suite is in a record, besides the source and the type. */
type Payload = { data: unknown } | { data_base64: string; datacontenttype: string }

export const isJson = (contentType: string): boolean => /^application\/json\s*(;|$)/i.test(contentType)

/** The messages in a body. An array of a JSON stream has one message for each item (Durable Streams 1.0, section 7). */
export function messagesIn(body: Buffer, contentType: string): Payload[] {
  if (body.length === 0) return []
  if (!isJson(contentType)) return [{ data_base64: body.toString('base64'), datacontenttype: contentType }]
  const value: unknown = JSON.parse(body.toString())
  return (Array.isArray(value) ? value : [value]).map((data) => ({ data }))
}

/** The body of a stream, from the JSON array of its records. */
export function bodyOf(records: string, contentType: string): Buffer {
  const payloads = JSON.parse(records) as { data?: unknown; data_base64?: string }[]
  // A record whose data is null has no `data`.
  if (isJson(contentType)) return Buffer.from(JSON.stringify(payloads.map(({ data = null }) => data)))
  return Buffer.concat(payloads.map(({ data_base64 = '' }) => Buffer.from(data_base64, 'base64')))
}
