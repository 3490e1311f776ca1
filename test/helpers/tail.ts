import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { type Command, runCommand } from './command.ts'
import { until, untilStable } from './until.ts'

interface Target {
  url: string
  key: string
}

/** Runs `sluice tail`. */
export const tail = (t: Test, { url, key }: Target, args: string[], env: Record<string, string> = {}): Command =>
  runCommand(t, ['tail', ...args], { SLUICE_URL: url, SLUICE_KEY: key, ...env })

/** The ids of the records that it has printed. */
export const idsOf = (command: Command): string[] => command.logs().map(({ id }) => String(id))

/** Waits until it has printed this number of records. */
export const printed = (command: Command, count: number) =>
  until(`${count} records on stdout`, () => command.logs().length >= count)

export async function endOf({ exit, stdout, stderr }: Command) {
  const code = await exit
  return { code, stdout: stdout(), stderr: stderr() }
}

/** A record as the feed gives it. Its cursor is an offset only for a stub. */
export const feedLine = (n: number, data = '{}') =>
  `{"specversion":"1.0","source":"shop","id":"${n}","type":"t","time":"2026-01-31T12:00:00Z","data":${data},"receivedAt":"2026-01-31T12:00:00Z","cursor":"${cursorOf(n)}"}`

/** An offset of a stub. */
export const cursorOf = (n: number) => String(n).padStart(30, '0')

/** The number of the record after which a request continues. */
export function afterOf(request: IncomingMessage): number {
  const offset = new URL(request.url ?? '', 'http://stub').searchParams.get('offset')
  return offset === '-1' ? 0 : Number(offset)
}

/** Sends the records with these numbers as a page of the feed. */
export function sendPage(response: ServerResponse, numbers: number[], next: number, isUpToDate = true, data = '{}') {
  const headers = { 'stream-next-offset': cursorOf(next), ...(isUpToDate && { 'stream-up-to-date': 'true' }) }
  response.writeHead(200, { 'content-type': 'application/json', ...headers })
  response.end(`[${numbers.map((n) => feedLine(n, data)).join(',')}]`)
}

/** Of 1 MB: more than a pipe holds. */
export const PAGE_RECORDS = 10
const PAYLOAD = JSON.stringify('x'.repeat(100_000))

/**
 * For a page that a signal interrupts. Node.js completes up to eight writes to a pipe before it looks for signals: a page of ten
 * records could be complete by then.
 */
export const LONG_PAGE = 50

/** Pages of a feed without end, for a stub. @param size in records */
export function endlessPages(size = PAGE_RECORDS) {
  let pages = 0
  return {
    count: () => pages,
    handle(request: IncomingMessage, response: ServerResponse) {
      pages++
      const after = afterOf(request)
      const numbers = Array.from({ length: size }, (_, at) => after + at + 1)
      sendPage(response, numbers, after + size, false, PAYLOAD)
    },
  }
}

/** Stops to read stdout, and waits until no more pages are requested. @returns their number */
export async function stall({ child }: Command, pages: () => number): Promise<number> {
  if (pages() === 0) await once(child.stdout as Readable, 'data')
  child.stdout?.pause()
  return untilStable(pages, () => sleep(5), 100)
}
