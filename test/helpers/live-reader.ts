import type { Test } from 'tap'
import { parseEvents } from './feed.ts'
import { openClient } from './http.ts'

type Identified = { id: string; cursor: string }

/** Opens a reader of the feed on its own connection, and waits for the head of its response. */
export async function openReader(
  t: Test,
  port: number,
  key: string,
  path: string,
  headers: Record<string, string> = {},
) {
  const answer = await openClient(t, port, key).read(path, headers)
  let text = ''
  let isOver = false
  let error: Error | undefined
  answer
    .setEncoding('utf8')
    .on('data', (chunk) => {
      text += chunk
    })
    .on('error', (reason) => {
      error = reason
    })
    .on('close', () => {
      isOver = true
    })
  /** Those that are complete. */
  const events = () => parseEvents(text.slice(0, text.lastIndexOf('\n\n') + 2))
  return {
    answer,
    status: answer.statusCode,
    text: () => text,
    isOver: () => isOver,
    error: () => error,
    events,
    /** The records in its events. */
    records: () =>
      events()
        .filter(({ event }) => event === 'data')
        .flatMap(({ data }) => JSON.parse(data as string) as Identified[]),
    controls: () => events().flatMap(({ event, data }) => (event === 'control' ? [JSON.parse(data as string)] : [])),
    /** Its complete lines. The last one is empty, because each line ends with a newline. */
    lines: () => text.slice(0, text.lastIndexOf('\n') + 1).split('\n'),
  }
}
