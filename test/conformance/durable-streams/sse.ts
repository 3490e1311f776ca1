/** The rule for the end of a line of an event stream (https://html.spec.whatwg.org/#event-stream-interpretation). */
const LINE_END = /\r\n|\n|\r/

/** Replaces the data of every `data` event. Everything else, such as control events, stays as it is. */
export async function* mapDataEvents(
  chunks: AsyncIterable<string>,
  map: (data: string) => string,
): AsyncGenerator<string> {
  let rest = ''
  for await (const chunk of chunks) {
    const events = (rest + chunk).split('\n\n')
    rest = events.pop() as string
    if (events.length > 0) yield events.map((event) => `${mapEvent(event, map)}\n\n`).join('')
  }
  yield rest
}

function mapEvent(event: string, map: (data: string) => string): string {
  const lines = event.split('\n')
  if (!lines.some((line) => /^event: ?data$/.test(line))) return event
  const isData = (line: string) => line.startsWith('data:')
  const data = lines.filter(isData).map((line) => line.replace(/^data: ?/, ''))
  const mapped = map(data.join('\n')).split(LINE_END)
  return [...lines.filter((line) => !isData(line)), ...mapped.map((line) => `data:${line}`)].join('\n')
}
