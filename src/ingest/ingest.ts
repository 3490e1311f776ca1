import { v7 as uuidv7 } from 'uuid'
import type { RowOutcome } from '../data/record-store.ts'
import type { Row } from '../data/row.ts'
import type { Fault } from '../lib/problems.ts'
import { sourceFault } from '../operate/access.ts'
import type { Key } from '../operate/keys.ts'
import type { Defaults } from './envelope.ts'
import { isFault, type RecordLimits, readJsonRecords } from './json-records.ts'
import type { Preferences } from './prefer.ts'
import {
  type Counts,
  countResults,
  joinResults,
  type Result,
  refusal,
  statusOf,
  strictRefusal,
  writeResults,
} from './results.ts'
import type { Writer } from './writer.ts'

export interface IngestRequest {
  text: string
  /** What the body occupies, for the bound on a flush. */
  bytes: number
  key: Key
  idempotencyKey: string | undefined
  traceparent: string | undefined
  preferences: Preferences
}

export interface IngestAnswer {
  status: 200 | 201 | 207
  body: string
  counts: Counts
  /** Of the one record that a request for a single record created. */
  location: string | undefined
}

/**
 * The way of a request: read, check, write, answer. Resolves after the commit.
 * @throws Problem when no record was stored
 */
export async function ingest(writer: Writer, limits: RecordLimits, request: IngestRequest): Promise<IngestAnswer> {
  const batch = readJsonRecords(request.text, limits, (single) => defaultsFor(request, single))
  const records = batch.records.map((record, index) =>
    isFault(record) ? record : (sourceFault(request.key, record.source, index) ?? record),
  )
  const rows = records.filter((record): record is Row => !isFault(record))
  const { strict, minimal } = request.preferences

  if (strict && rows.length < records.length) throw refuse(records.filter(isFault), batch.single)
  const outcomes = rows.length > 0 ? await write(writer, rows, request) : []
  const results = joinResults(records, outcomes)
  const counts = countResults(results)
  const status = statusOf(counts)
  const faults = status === 'refused' || (strict && status === 207) ? faultsOf(results) : []
  if (faults.length > 0) throw refuse(faults, batch.single)

  return {
    status: status as IngestAnswer['status'],
    body: writeResults(results, counts, minimal),
    counts,
    location: locationOf(results, batch.single),
  }

  function refuse(these: Fault[], single: boolean) {
    return strict && !single ? strictRefusal(these) : refusal(these, single)
  }
}

function defaultsFor({ idempotencyKey, traceparent }: IngestRequest, single: boolean): Defaults {
  return {
    traceparent,
    makeId: (index) => {
      if (idempotencyKey === undefined) return uuidv7()
      return single ? idempotencyKey : `${idempotencyKey}.${index}`
    },
  }
}

function write(writer: Writer, rows: readonly Row[], { bytes, preferences }: IngestRequest): Promise<RowOutcome[]> {
  return new Promise((resolve, reject) => {
    writer.submit({ rows, bytes, strict: preferences.strict }, (error, outcomes) =>
      error === undefined ? resolve(outcomes) : reject(error),
    )
  })
}

const faultsOf = (results: readonly Result[]) => results.flatMap((result) => ('error' in result ? [result.error] : []))

function locationOf([result]: readonly Result[], single: boolean): string | undefined {
  if (!single || result?.status !== 'created') return undefined
  return `/v1/records/${encodeURIComponent(result.row.source)}/${encodeURIComponent(result.row.id)}`
}
