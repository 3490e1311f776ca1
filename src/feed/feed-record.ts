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

/** The first members of a line. Each string is JSON. */
const FIRST_MEMBERS = (() => {
  const string = '"(?:[^"\\\\]|\\\\.)*"'
  const members = `"source":(${string}),"id":${string},"type":(${string}),"time":${string}(?:,"subject":(${string}))?`
  return new RegExp(`^{"specversion":"1.0",${members}[,}]`)
})()

/** @param lines each record as JSON, and a newline */
export function toFeedRecords(lines: string): FeedRecord[] {
  return (lines.match(/[^\n]*\n/g) ?? []).map((line) => {
    const [, source, type, subject] = FIRST_MEMBERS.exec(line) as unknown as [
      string,
      string,
      string,
      string | undefined,
    ]
    return {
      offset: offsetBefore(line, line.length),
      source: JSON.parse(source),
      type: JSON.parse(type),
      subject: subject === undefined ? null : JSON.parse(subject),
      line,
    }
  })
}
