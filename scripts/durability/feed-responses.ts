/** Complete records of a response as JSON, and the offset to continue from. */
export interface Piece {
  records: string[]
  next: string
}

/** A page, or the response to a long-poll, which has no body if there is no new record. */
export async function* readPage(response: Response): AsyncGenerator<Piece> {
  yield { records: elementsOf(await response.text()), next: response.headers.get('stream-next-offset') as string }
}

/** Server-sent events: an event counts when its blank line has arrived, and its id is where an EventSource continues. */
export async function* readEvents(response: Response): AsyncGenerator<Piece> {
  for await (const event of split(response, '\n\n')) {
    const {
      event: name,
      id,
      data = '[]',
    } = Object.fromEntries(event.split('\n').map((line) => line.split(/: ?(.*)/s, 2)))
    if (id !== undefined) yield { records: name === 'data' ? elementsOf(data) : [], next: id }
  }
}

/** One record per line, and empty lines, which keep the connection open. */
export async function* readLines(response: Response): AsyncGenerator<Piece> {
  for await (const line of split(response, '\n')) {
    if (line === '') continue
    yield { records: [line], next: JSON.parse(line).cursor }
  }
}

/**
 * The texts of the records in an array. All feed readers get the same texts, so each has to be parsed only once. Sluice begins each record with its
 * specversion, and the payloads of this run do not contain it.
 */
const elementsOf = (array: string): string[] =>
  array === '' || array === '[]' ? [] : array.slice(1, -1).split(/,(?=\{"specversion")/)

/** The texts that a separator ends. What the connection cuts off is left out. */
async function* split({ body }: Response, separator: string): AsyncGenerator<string> {
  let rest = ''
  for await (const text of (body as NonNullable<Response['body']>).pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split(separator)
    rest = parts.pop() as string
    yield* parts
  }
}
