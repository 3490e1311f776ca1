import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import { idOf, readRecord } from '../order-events.ts'

/** The columns that our server fills, too; the others have their defaults on both ways. */
const COPY = `COPY rival.records
  (epoch, n, source, id, type, subject, "time", dataschema, datacontenttype, extensions, data, data_bytes) FROM STDIN`

const NULL = '\\N'

/** The rows of `buildLines` as COPY takes them. */
export function buildCopyText(from: number, to: number): Buffer {
  const { source, type, subject, time, data } = readRecord()
  const rows: string[] = []
  for (let n = from; n < to; n++) {
    rows.push([1, n, source, idOf(n), type, subject, time, NULL, NULL, NULL, data, NULL].join('\t'))
  }
  return Buffer.from(`${rows.join('\n')}\n`)
}

/** Runs one COPY for each stream, all at once. @returns how many seconds it took until the last was committed */
export async function copyIn(url: string, streams: Iterable<Buffer>[]): Promise<number> {
  const clients = streams.map(() => new pg.Client({ connectionString: url }))
  try {
    // A connection is there before the clock runs, as those of our server are.
    await Promise.all(clients.map((client) => client.connect()))
    const begin = performance.now()
    await Promise.all(
      streams.map((pieces, index) =>
        pipeline(Readable.from(pieces), (clients[index] as pg.Client).query(copyFrom(COPY))),
      ),
    )
    return (performance.now() - begin) / 1000
  } finally {
    await Promise.all(clients.map((client) => client.end()))
  }
}
