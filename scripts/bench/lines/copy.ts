import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import { idOf, readRecord } from '../order-events.ts'

/** The columns that Sluice writes. The others get their defaults, as with Sluice. */
const COPY = `COPY rival.records
  (epoch, n, source, id, type, subject, "time", dataschema, datacontenttype, extensions, data, data_bytes) FROM STDIN`

const NULL = '\\N'

/** The same rows as `buildLines`, in the text format of COPY. */
export function buildCopyText(from: number, to: number): Buffer {
  const { source, type, subject, time, data } = readRecord()
  const rows: string[] = []
  for (let n = from; n < to; n++) {
    rows.push([1, n, source, idOf(n), type, subject, time, NULL, NULL, NULL, data, NULL].join('\t'))
  }
  return Buffer.from(`${rows.join('\n')}\n`)
}

/** Runs one COPY per stream, all at the same time. @returns the seconds until the last one was committed */
export async function copyIn(url: string, streams: Iterable<Buffer>[]): Promise<number> {
  const clients = streams.map(() => new pg.Client({ connectionString: url }))
  try {
    // The time to connect is not measured, because Sluice is connected already.
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
