import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { buffer } from 'node:stream/consumers'
import pg from 'pg'
import { to as copyTo } from 'pg-copy-streams'

export type Task = { kind: 'lines' | 'pages'; port: number; key: string } | { kind: 'copy'; url: string }

export interface Received {
  records: number
  seconds: number
}

/** The columns that the feed reads, in its order. */
const COPY = `COPY (
  SELECT epoch, xid, n, received_at, "time", source, id, type, subject, dataschema, datacontenttype, extensions, data, data_bytes
  FROM sluice.records
  ORDER BY epoch, xid, n
) TO STDOUT`

const NEWLINE = '\n'
/** Each record of a page has one. */
const CURSOR = '"cursor":"'

process.on('message', async (task: Task) => process.send?.(await perform(task)))
process.once('disconnect', () => process.exit())
process.send?.('ready')

async function perform(task: Task): Promise<Received> {
  if (task.kind === 'copy') return copy(task.url)
  const { port, key } = task
  return clock(() => (task.kind === 'lines' ? readLines(port, key) : readPages(port, key)))
}

async function copy(url: string): Promise<Received> {
  const client = new pg.Client({ connectionString: url })
  try {
    // The time to connect is not measured, because Sluice is connected already.
    await client.connect()
    return await clock(() => countLines(client.query(copyTo(COPY))))
  } finally {
    await client.end()
  }
}

async function readLines(port: number, key: string): Promise<number> {
  return countLines(await request(port, key, '/v1/feed', { accept: 'application/x-ndjson' }))
}

async function readPages(port: number, key: string): Promise<number> {
  const agent = new Agent({ keepAlive: true })
  let records = 0
  for (let offset = '-1', upToDate = false; !upToDate; ) {
    const response = await request(port, key, `/v1/feed?offset=${offset}`, { accept: 'application/json' }, agent)
    records += count(await buffer(response), CURSOR)
    offset = response.headers['stream-next-offset'] as string
    upToDate = response.headers['stream-up-to-date'] === 'true'
  }
  agent.destroy()
  return records
}

async function request(port: number, key: string, path: string, more: Record<string, string>, agent?: Agent) {
  const headers = { authorization: `Bearer ${key}`, ...more }
  const sent = get({ host: '127.0.0.1', port, path, headers, ...(agent && { agent }) })
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  if (response.statusCode !== 200) throw new Error(`feed: the server responded with ${response.statusCode}`)
  return response
}

async function countLines(chunks: AsyncIterable<Buffer>): Promise<number> {
  let lines = 0
  for await (const chunk of chunks) lines += count(chunk, NEWLINE)
  return lines
}

function count(bytes: Buffer, text: string): number {
  let found = 0
  for (let at = bytes.indexOf(text); at !== -1; at = bytes.indexOf(text, at + 1)) found++
  return found
}

async function clock(work: () => Promise<number>): Promise<Received> {
  const begin = performance.now()
  const records = await work()
  return { records, seconds: (performance.now() - begin) / 1000 }
}
