import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { zstdDecompressSync } from 'node:zlib'
import type { Test } from 'tap'
import { createApp, type TestApp } from './app.ts'
import { type Command, runCommand } from './command.ts'
import type { sendProblem } from './proxy.ts'

/** Runs `work` for all items, three at a time. Most of a short run is the start of Node.js. */
export async function inParallel<T>(items: readonly T[], work: (item: T, at: number) => Promise<void>): Promise<void> {
  const left = items.entries()
  const worker = async () => {
    for (const [at, item] of left) await work(item, at)
  }
  await Promise.all([worker(), worker(), worker()])
}

export interface Target {
  url: string
  key: string
}

export async function start(t: Test): Promise<TestApp & Target> {
  const server = await createApp(t)
  return { ...server, url: await server.app.listen({ port: 0 }) }
}

interface LoadResult {
  code: number | string
  stdout: string
  stderr: string
  counts: Record<string, number>
}

export function load(t: Test, { url, key }: Target, args: string[], stdin: string | Buffer = ''): Promise<LoadResult> {
  return waitForEnd(runCommand(t, ['load', ...args], { SLUICE_URL: url, SLUICE_KEY: key }, [], stdin))
}

export async function waitForEnd({ exit, stdout, stderr }: Command): Promise<LoadResult> {
  const code = await exit
  const lines = stdout().matchAll(/^(created|duplicate|conflict|rejected|lines) +([\d,]+)$/gm)
  const counts = Object.fromEntries([...lines].map(([, name, n]) => [name, Number(n?.replaceAll(',', ''))]))
  return { code, stdout: stdout(), stderr: stderr(), counts }
}

/** Resolves when stderr contains `text`. Throws if the command ends without it. */
export async function waitForStderr({ child, stderr, exit }: Command, text: string): Promise<void> {
  let over = false
  void exit.then(() => {
    over = true
  })
  while (!stderr().includes(text)) {
    if (over) throw new Error(`the command ended without "${text}" on stderr: ${stderr()}`)
    await Promise.race([once(child.stderr as Readable, 'data'), exit])
  }
}

/** Returns stderr without the progress lines that a long run writes every five seconds. */
export const withoutProgress = (stderr: string): string => stderr.replaceAll(/^[\d,]+ records, .*\n/gm, '')

export function hasNoStackTrace(t: Test, stderr: string): void {
  t.notMatch(stderr, /\n\s+at |node:internal/, 'no stack trace')
}

export const order = (n: number, fields: Record<string, unknown> = {}) =>
  JSON.stringify({ source: 'shop', type: 'order.placed', id: String(n), data: { n: 1 }, ...fields })

export const orders = (count: number, fields: (n: number) => Record<string, unknown> = () => ({})) =>
  Array.from({ length: count }, (_, at) => `${order(at + 1, fields(at + 1))}\n`).join('')

export async function write(t: Test, name: string, content: string | Buffer): Promise<string> {
  const path = join(folderOf(t), name)
  await writeFile(path, content)
  return path
}

const folders = new WeakMap<Test, string>()

/** The folder of a test. t.testdir() would empty it on each call. */
export function folderOf(t: Test): string {
  const folder = folders.get(t) ?? t.testdir()
  folders.set(t, folder)
  return folder
}

/** Returns all stored records. */
// biome-ignore lint/suspicious/noExplicitAny: the parsed records; each test knows their shape
export async function stored({ get }: TestApp): Promise<any[]> {
  const { text } = await get('/v1/records', { accept: 'application/x-ndjson' })
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

/** A gate: `arrive` waits until the test calls `release`, and `arrived` resolves when something waits. */
export function hold() {
  const [arrival, departure] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  return {
    arrived: arrival.promise,
    release: departure.resolve,
    arrive() {
      arrival.resolve()
      return departure.promise
    },
  }
}

export function countLines(request: IncomingMessage, body: Buffer): number {
  const bytes = request.headers['content-encoding'] === 'zstd' ? zstdDecompressSync(body) : body
  return bytes.toString('latin1').split('\n').length - 1
}

export function report(response: Parameters<typeof sendProblem>[0], counts: Record<string, number>): void {
  response.writeHead(201, { 'content-type': 'application/json' })
  const all = { created: 0, duplicate: 0, conflict: 0, rejected: 0, ...counts }
  response.end(JSON.stringify({ counts: all, lines: 0, committedLines: 0, rejections: [], rejectionsOmitted: 0 }))
}
