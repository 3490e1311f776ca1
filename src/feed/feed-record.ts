import { offsetBefore } from '../data/record-line.ts'

/** A record, with what filters look at. */
export interface FeedRecord {
  offset: string
  source: string
  type: string
  subject: string | null
  /** The record in JSON, and a newline. */
  line: string
}

/** The first members of a line, up to the text of the subject if it has one. Each string is JSON. */
const FIRST_MEMBERS = (() => {
  const string = '"(?:[^"\\\\]|\\\\.)*"'
  return new RegExp(
    `^{"specversion":"1.0","source":(${string}),"id":${string},"type":(${string}),"time":${string}(,"subject":)?`,
  )
})()

/** @param lines each record as JSON, and a newline */
export function toFeedRecords(lines: string): FeedRecord[] {
  return (lines.match(/[^\n]*\n/g) ?? []).map((part) => {
    const line = copyOf(part)
    const [{ length }, source, type, subject] = FIRST_MEMBERS.exec(line) as unknown as [string, string, string, string?]
    return {
      offset: copyOf(offsetBefore(line, line.length)),
      source: JSON.parse(source),
      type: JSON.parse(type),
      subject: subject === undefined ? null : JSON.parse(line.slice(length, endOfString(line, length))),
      line,
    }
  })
}

/** In V8, a part of a text keeps the whole text in memory: one record, or the offset of one, would keep its page. */
const copyOf = (part: string): string => Buffer.from(part).toString()

/**
 * The end of a string of JSON. A subject may be as large as a record, and a regular expression would exhaust V8's stack for it at
 * about 8 MiB.
 * @param start the index of its first quote
 */
function endOfString(json: string, start: number): number {
  for (let end = start; ; ) {
    end = json.indexOf('"', end + 1)
    let at = end
    while (json[at - 1] === '\\') at--
    if ((end - at) % 2 === 0) return end + 1
  }
}
