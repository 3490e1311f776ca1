import { pipeline } from 'node:stream/promises'
import { type Command, Option } from 'commander'
import { readName } from '../client/compression.ts'
import { findKey } from '../client/key.ts'
import { type Output, openOutput } from '../client/output.ts'
import { type Progress, showProgress } from '../client/progress.ts'
import { retry } from '../client/retry.ts'
import { checkReachable, notSluiceError, type Server, send, urlOption } from '../client/server.ts'
import { forTerminal } from '../client/terminal.ts'
import { explain } from '../lib/explain.ts'
import type { ListQuery } from '../schemas/list.ts'
import { nameOption, optionOf } from './name-option.ts'
import { onSignals } from './signals.ts'

const MEDIA_TYPES = { ndjson: 'application/x-ndjson', csv: 'text/csv' } as const
type ExportFormat = keyof typeof MEDIA_TYPES

/** The parameters that are options of the same name. `fields` is --columns, and only a page has a count. */
type Query = Omit<ListQuery, 'count' | 'fields'>

interface Options extends Omit<Query, 'limit'> {
  url: string
  format?: ExportFormat
  output?: string
  columns?: string
  limit?: string
}

/** The parameters of GET /v1/records, each with its placeholder and its description as an option. */
const PARAMETERS: Record<keyof Query, readonly [placeholder: string, description: string]> = {
  source: ['source', 'records of this source'],
  sourcePrefix: ['text', 'records whose source starts with this text'],
  id: ['id', 'records with this id'],
  type: ['type', 'records of this type'],
  subject: ['subject', 'records with this subject'],
  timeFrom: ['time', 'records with this time or a later one, such as 2026-01-31T12:00:00Z'],
  timeUntil: ['time', 'records with an earlier time'],
  receivedFrom: ['time', 'records received at this time or later'],
  receivedUntil: ['time', 'records received before this time'],
  data: ['json', "records whose data contains this JSON, in the sense of PostgreSQL's @>"],
  jsonpath: ['path', "records whose data satisfies this jsonpath of PostgreSQL, such as '$.total > 10'"],
  order: ['order', 'desc: newest first; asc: in the order of the feed; default: desc'],
  limit: ['n', 'maximum number of records; default: all'],
  cursor: ['cursor', 'start after this cursor'],
}
const NAMES = Object.keys(PARAMETERS) as (keyof Query)[]

/** Parameters that are no options. */
const NO_OPTIONS = {
  fields: 'Write --columns, which takes the same names.',
  count: 'An export has all records, and says how many of them it wrote as NDJSON.',
}

const HELP = `
The API key is SLUICE_KEY, or else the key that npm start created. It needs the scope read.

Exports the whole selection, without records that are stored after the export has begun. Without --columns, sluice load can
load the result, as NDJSON or CSV. A file appears under its name only when it is complete, and replaces an existing file. If the name
ends with .gz or .zst, the file is compressed.

  sluice export --type order.placed --received-from 2026-01-01T00:00:00Z --output orders.ndjson.gz
  sluice export --source shop --order asc | jq .data.total
  sluice export --jsonpath '$.total > 10' --columns id,time,data.total --output orders.csv

The exit code is 0 if everything was written, otherwise 1.`

/** Options of `sluice export`: the parameters of GET /v1/records in kebab case. */
export function defineExport(command: Command): void {
  command.addOption(urlOption())
  command.addOption(
    new Option(
      '--format <format>',
      'default: csv if --output ends with .csv, or with --columns, otherwise ndjson',
    ).choices(Object.keys(MEDIA_TYPES)),
  )
  command.option('--output <file>', 'write to this file instead of stdout')
  command.option('--columns <names>', 'write CSV with only these columns, such as source,id,time,data.total')
  for (const name of NAMES) {
    const [placeholder, description] = PARAMETERS[name]
    command.option(`${optionOf(name)} <${placeholder}>`, description)
  }
  for (const [name, instead] of Object.entries(NO_OPTIONS)) {
    command.addOption(new Option(`--${name} [value]`).hideHelp())
    command.on(`option:${name}`, () => command.error(`error: unknown option '--${name}'. ${instead}`))
  }
  command.addHelpText('after', HELP).action(runExport)
}

/** Writes a selection of records. @throws Error with a sentence if it is incomplete */
async function runExport(options: Options): Promise<void> {
  const { url, output: path, columns, format = formatByName(path, columns) } = options
  const server: Server = { url, token: (await findKey()).token }
  await checkReachable(url)

  const stop = new AbortController()
  onSignals(
    ['SIGINT', 'SIGTERM'],
    () => stop.abort(new Error('interrupted')),
    () => process.exit(1),
  )
  // If the records go to a terminal, progress would be mixed with them.
  const progress = path === undefined && process.stdout.isTTY === true ? undefined : showProgress(undefined)
  const begin = performance.now()
  const seen = { records: 0, bytes: 0 }
  let output: Output | undefined
  let begun = false
  try {
    output = path === undefined ? undefined : await openOutput(path)
    const body = await request(server, options, format, stop.signal, progress)
    begun = true
    const content = path === undefined && process.stdout.isTTY === true ? forTerminal(count(body)) : count(body)
    await pipeline(content, output?.stream ?? process.stdout, { end: false, signal: stop.signal })
    await output?.commit()
  } catch (error) {
    await output?.discard()
    throw new Error(describeFailure(error))
  } finally {
    progress?.stop()
  }
  if (progress !== undefined)
    console.error(`${describeAmount()} in ${((performance.now() - begin) / 1000).toFixed(1)} s`)

  async function* count(body: ReadableStream<Uint8Array>): AsyncGenerator<Buffer> {
    for await (const chunk of body) {
      seen.bytes += chunk.length
      if (format === 'ndjson') seen.records += countNewlines(chunk)
      progress?.update(0, describeAmount())
      yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
    }
  }

  function describeAmount(): string {
    const records = format === 'ndjson' ? `${seen.records.toLocaleString('en')} records, ` : ''
    const rate = (seen.bytes / 1e3 / (performance.now() - begin)).toFixed(1)
    return `${records}${(seen.bytes / 1e6).toFixed(1)} MB, ${rate} MB/s`
  }

  function describeFailure(error: unknown): string {
    if (stop.signal.aborted) return `Interrupted${path === undefined ? '' : `: ${path} was not written`}`
    if ((error as NodeJS.ErrnoException).code === 'EPIPE')
      return 'The program that reads stdout closed it before the end'
    const partial = path === undefined ? 'the output is incomplete' : `${path} was not written`
    return begun ? `${explain(error)}. It broke off after ${describeAmount()}: ${partial}` : explain(error)
  }
}

/** Requests the selection. @returns the body of the response */
async function request(
  server: Server,
  options: Options,
  format: ExportFormat,
  stop: AbortSignal,
  progress: Progress | undefined,
): Promise<ReadableStream<Uint8Array>> {
  const query = new URLSearchParams()
  for (const name of NAMES) if (options[name] !== undefined) query.set(name, String(options[name]))
  if (options.columns !== undefined) query.set('fields', options.columns)
  // By default, fetch requests gzip, which costs the server several times as much processor time as zstd.
  const headers = { accept: MEDIA_TYPES[format], 'accept-encoding': 'zstd, gzip;q=0.5' }
  const response = await retry(() => send(server, `/v1/records?${query}`, { headers, signal: stop }), {
    stop,
    onWait: (text) => progress?.note(text),
  }).catch(nameOption([...NAMES, 'fields'], { fields: '--columns' }))
  if (response.body === null || !response.headers.get('content-type')?.startsWith(MEDIA_TYPES[format]))
    throw notSluiceError(server.url, `${response.status} ${response.headers.get('content-type')}`)
  return response.body as unknown as ReadableStream<Uint8Array>
}

function formatByName(path = '', columns?: string): ExportFormat {
  const { name } = readName(path.toLowerCase())
  if (name.endsWith('.csv')) return 'csv'
  return columns !== undefined && !/\.(?:ndjson|jsonl|json)$/.test(name) ? 'csv' : 'ndjson'
}

function countNewlines(chunk: Uint8Array): number {
  let newlines = 0
  for (let at = chunk.indexOf(0x0a); at !== -1; at = chunk.indexOf(0x0a, at + 1)) newlines++
  return newlines
}
