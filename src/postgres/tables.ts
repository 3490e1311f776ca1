import type { ColumnType, Generated, Kysely } from 'kysely'

/**
 * The tables that db/migrations creates, with the types that a connection of connect.ts returns. Times, json and 64-bit numbers
 * are PostgreSQL's text, because a Date has only milliseconds and a JavaScript number only 53 bits.
 */
export interface Tables {
  'sluice.records': RecordTable
  'sluice.keys': KeyTable
  'sluice.jobs': JobTable
  'sluice.consumers': ConsumerTable
  'sluice.series': SeriesTable
  'sluice.rollups': RollupTable
  'sluice.rollup_progress': RollupProgressTable
  'sluice.storage_history': { hour: string; used_bytes: string }
  'sluice.epochs': {
    epoch: number
    system_identifier: string
    timeline: number
    started_at: Generated<string>
    server_started_at: string | null
    lost_from: string | null
  }
}

export type Database = Kysely<Tables>

interface RecordTable {
  epoch: number
  xid: Generated<string>
  n: string
  received_at: Generated<string>
  time: string | null
  source: string
  id: string
  type: string
  subject: string | null
  dataschema: string | null
  datacontenttype: string | null
  extensions: string | null
  data: string | null
  data_bytes: Buffer | null
}

interface KeyTable {
  id: string
  name: string
  hash: Buffer
  scopes: string[]
  source_prefixes: Generated<string[]>
  records_per_second: number | null
  created_at: Generated<string>
  expires_at: ColumnType<string | null, Date | null | undefined, Date | null>
  revoked_at: ColumnType<string | null, never, unknown>
}

interface JobTable {
  job: string
  finished_at: string
  succeeded: boolean
  succeeded_at: string | null
  seconds: number
  figures: string
  totals: string
}

interface ConsumerTable {
  name: string
  epoch: number
  xid: string
  n: string
  revision: Generated<string>
  created_at: Generated<string>
  updated_at: Generated<string>
  overtaken_at: string | null
}

interface SeriesTable {
  series: Generated<number>
  source: string
  type: string
}

interface RollupTable {
  series: number
  seconds: number
  start: string
  records: Generated<string>
  bytes: Generated<string>
  duplicates: Generated<string>
  rejected: Generated<string>
}

interface RollupProgressTable {
  part: string
  epoch: number
  xid: string
  n: string
  until_epoch: number | null
  until_xid: string | null
  until_n: string | null
  records: Generated<string>
  folded: Generated<string>
  rest_until: string | null
}
