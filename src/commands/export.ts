import { pipeline } from 'node:stream/promises'
import { type Command, Option } from 'commander'
import { readName } from '../client/compression.ts'
import { findKey } from '../client/key.ts'
import { type Output, openOutput } from '../client/output.ts'
import { type Progress, showProgress } from '../client/progress.ts'
import { retry } from '../client/retry.ts'
import { isOther, reach, type Server, send, urlOption } from '../client/server.ts'
import { explain } from '../lib/explain.ts'
import { type ListQuery, ListQuerySchema } from '../schemas/list.ts'
import { onSignals } from './signals.ts'

const MEDIA_TYPES = { ndjson: 'application/x-ndjson', csv: 'text/csv' } as const
type FormatName = keyof typeof MEDIA_TYPES

interface Options extends Omit<ListQuery, 'limit'> {
  url: string
  format?: FormatName
  output?: string
  limit?: string
}

const FILTERS = Object.keys(ListQuerySchema.properties) as (keyof ListQuery)[]

const HELP = `
The API key is SLUICE_KEY, else the one that npm start made; it needs the scope read.

The whole selection, as it stands when the export begins; sluice load takes it back, from NDJSON or CSV. A file appears
under its name when it is complete, and not before, and replaces what had that name; .gz and .zst are compressed.

  sluice export --type order.placed --received-from 2026-01-01T00:00:00Z --output orders.ndjson.gz
  sluice export --source shop --order asc | jq .data.total

The exit code is 0 when everything was written; else 1.`

/** Options of `sluice export`: the parameters of GET /v1/records, in the spelling of a shell. */
export function defineExport(command: Command): void {
  command.addOption(urlOption())
  command.addOption(
    new Option('--format <format>', 'ndjson, unless --output is named .csv').choices(Object.keys(MEDIA_TYPES)),
  )
  command.option('--output <file>', 'instead of stdout')
  for (const name of FILTERS) {
    const flag = name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
    command.option(`--${flag} <${flag}>`, ListQuerySchema.properties[name].description)
  }
  command.addHelpText('after', HELP).action(runExport)
}

/** Writes a selection of records. @throws Error with a sentence, when it is not complete */
async function runExport(options: Options): Promise<void> {
  const { url, output: path, format = formatByName(path) } = options
  const server: Server = { url, token: (await findKey()).token }
  await reach(url)

  const stop = new AbortController()
  onSignals(
    ['SIGINT', 'SIGTERM'],
    () => stop.abort(new Error('interrupted')),
    () => process.exit(1),
  )
  // Records on a terminal are what is to be seen there.
  const progress = path === undefined && process.stdout.isTTY === true ? undefined : showProgress(undefined)
  const begin = performance.now()
  const seen = { records: 0, bytes: 0 }
  let output: Output | undefined
  let begun = false
  try {
    output = path === undefined ? undefined : await openOutput(path)
    const body = await request(server, options, format, stop.signal, progress)
    begun = true
    await pipeline(count(body), output?.stream ?? process.stdout, { end: false, signal: stop.signal })
    await output?.commit()
  } catch (error) {
    await output?.discard()
    throw new Error(tellEnd(error))
  } finally {
    progress?.stop()
  }
  if (progress !== undefined) console.error(`${howMuch()} in ${((performance.now() - begin) / 1000).toFixed(1)} s`)

  async function* count(body: ReadableStream<Uint8Array>): AsyncGenerator<Buffer> {
    for await (const chunk of body) {
      seen.bytes += chunk.length
      if (format === 'ndjson') seen.records += countNewlines(chunk)
      progress?.update(0, howMuch())
      yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
    }
  }

  function howMuch(): string {
    const records = format === 'ndjson' ? `${seen.records.toLocaleString('en')} records, ` : ''
    const rate = (seen.bytes / 1e3 / (performance.now() - begin)).toFixed(1)
    return `${records}${(seen.bytes / 1e6).toFixed(1)} MB, ${rate} MB/s`
  }

  function tellEnd(error: unknown): string {
    if (stop.signal.aborted) return `Interrupted${path === undefined ? '' : `: ${path} was not written`}`
    if ((error as NodeJS.ErrnoException).code === 'EPIPE') return 'Whoever reads stdout has left before the end'
    const partial = path === undefined ? 'what was written is not all' : `${path} was not written`
    return begun ? `${explain(error)}. After ${howMuch()} it broke off: ${partial}` : explain(error)
  }
}

/** The selection, as it begins to arrive. */
async function request(
  server: Server,
  options: Options,
  format: FormatName,
  stop: AbortSignal,
  progress: Progress | undefined,
): Promise<ReadableStream<Uint8Array>> {
  const query = new URLSearchParams()
  for (const name of FILTERS) if (options[name] !== undefined) query.set(name, String(options[name]))
  // Not fetch's own choice, gzip, which takes the server several times as long.
  const headers = { accept: MEDIA_TYPES[format], 'accept-encoding': 'zstd, gzip;q=0.5' }
  const response = await retry(() => send(server, `/v1/records?${query}`, { headers, signal: stop }), {
    stop,
    onWait: (text) => progress?.note(text),
  })
  if (response.body === null || !response.headers.get('content-type')?.startsWith(MEDIA_TYPES[format]))
    throw isOther(server.url, `${response.status} ${response.headers.get('content-type')}`)
  return response.body as unknown as ReadableStream<Uint8Array>
}

function formatByName(path = ''): FormatName {
  return readName(path.toLowerCase()).name.endsWith('.csv') ? 'csv' : 'ndjson'
}

function countNewlines(chunk: Uint8Array): number {
  let newlines = 0
  for (let at = chunk.indexOf(0x0a); at !== -1; at = chunk.indexOf(0x0a, at + 1)) newlines++
  return newlines
}
