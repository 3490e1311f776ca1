import { sourceFault } from '../access/check-key.ts'
import type { Key } from '../access/key.ts'
import type { RowOutcome } from '../data/record-store.ts'
import type { Row } from '../postgres/row.ts'
import type { Fault } from '../problems.ts'
import type { Counts } from '../schemas/results.ts'
import type { Writer } from '../writer/writer.ts'
import { type Batch, isFault } from './json-records.ts'
import type { Preferences } from './prefer.ts'
import type { Totals } from './record-totals.ts'
import {
  countResults,
  joinResults,
  type Result,
  refusal,
  statusOf,
  statusOfFault,
  strictRefusal,
  writeResults,
} from './results.ts'

export interface IngestRequest {
  batch: Batch
  /** Size of the body, for the bound on a flush. */
  bytes: number
  key: Key
  preferences: Preferences
  /** The results are added to these, even if no record was stored. */
  totals: Totals
  /** Called before anything is written. @throws Problem overloaded if there is no memory for the records and the response */
  admit?: (records: readonly (Row | Fault)[]) => void
}

interface IngestResponse {
  status: 200 | 201 | 207
  body: string
  counts: Counts
  /** The URL of the record, if a request with a single record created it. */
  location: string | undefined
}

/**
 * Writes the records of a request and returns a result for each. Resolves after the commit.
 * @throws Problem if no record was stored
 */
export async function ingest(writer: Writer, request: IngestRequest): Promise<IngestResponse> {
  const { batch, bytes, key, preferences, totals } = request
  const records = batch.records.map((record, index) =>
    isFault(record) ? record : (sourceFault(key, record.source, index) ?? record),
  )
  request.admit?.(records)
  const rows = records.filter((record): record is Row => !isFault(record))
  const { strict, minimal } = preferences
  const refuse = (failed: { fault: Fault; row?: Row | undefined }[]) => {
    // The other records of a strict batch have no result and are not counted.
    for (const { fault, row } of failed) totals.add(statusOfFault(fault), () => row ?? fault)
    const faults = failed.map(({ fault }) => fault)
    return strict && !batch.single ? strictRefusal(faults) : refusal(faults, batch.single)
  }

  if (strict && rows.length < records.length) throw refuse(records.filter(isFault).map((fault) => ({ fault })))
  // A single record is all or nothing anyway and needs no flush of its own.
  const alone = strict && rows.length > 1
  const outcomes = rows.length > 0 ? await write(writer, { key: key.id, rows, bytes, strict: alone }) : []
  const results = joinResults(records, outcomes)
  const counts = countResults(results)
  const status = statusOf(counts)
  if (status === 'refused' || (strict && status === 207)) throw refuse(failuresOf(results))

  for (const result of results)
    totals.add(result.status, () => result.row ?? ('error' in result ? result.error : undefined))
  const body = await writeResults(results, counts, minimal, key.id)
  return { status, body, counts, location: locationOf(results, batch.single) }
}

function write(writer: Writer, request: Parameters<Writer['submit']>[0]): Promise<RowOutcome[]> {
  return new Promise((resolve, reject) => {
    writer.submit(request, (error, outcomes) => (error === undefined ? resolve(outcomes) : reject(error)))
  })
}

const failuresOf = (results: readonly Result[]) =>
  results.flatMap((result) => ('error' in result ? [{ fault: result.error, row: result.row }] : []))

function locationOf([result]: readonly Result[], single: boolean): string | undefined {
  if (!single || result?.status !== 'created') return undefined
  const { source, id } = result.row
  // Clients remove `.` and `..` from a path, even percent-encoded (WHATWG URL, section 4.1), and would request another URL.
  if ([source, id].some((segment) => segment === '.' || segment === '..'))
    return `/v1/records?${new URLSearchParams({ source, id })}`
  return `/v1/records/${encodeURIComponent(source)}/${encodeURIComponent(id)}`
}
