import { connect, type Socket } from 'node:net'

/** A connection on which nothing happens for this long has failed. */
const STALL_MS = 120_000

/**
 * Implements only as much of HTTP/1.1 as is needed to find the end of a response: the status and Content-Length. A client library
 * would need more processor time than the servers that are measured.
 */
export class Connection {
  readonly #socket: Socket
  #rest: Buffer | undefined
  /** Bytes of the current response that have not arrived yet. */
  #expected = 0
  #status = 0
  onResponse: (status: number) => void = () => {}
  onBroken: (reason: string) => void

  constructor(port: number, onOpen: () => void, onRefused: (error: Error) => void) {
    this.onBroken = (reason) => onRefused(new Error(reason))
    this.#socket = connect({
      host: '127.0.0.1',
      port,
      noDelay: true,
      // Always reads into the same buffer, without the overhead of streams.
      onread: {
        buffer: Buffer.allocUnsafe(64 * 1024),
        callback: (size, buffer) => {
          this.#read((buffer as Buffer).subarray(0, size))
          return true
        },
      },
    })
    this.#socket.setTimeout(STALL_MS, () => this.#socket.destroy(new Error('no response')))
    this.#socket.once('connect', onOpen)
    this.#socket.once('error', (error) => this.onBroken(error.message))
    this.#socket.once('end', () => this.onBroken('connection closed'))
  }

  send(bytes: Buffer): void {
    this.#socket.write(bytes)
  }

  close(): void {
    this.onBroken = () => {}
    this.#socket.destroy()
  }

  #read(chunk: Buffer): void {
    if (this.#expected > 0) {
      this.#expected -= chunk.length
    } else {
      const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk])
      const head = bytes.indexOf('\r\n\r\n')
      if (head === -1) {
        this.#rest = Buffer.from(bytes)
        return
      }
      this.#rest = undefined
      this.#status = Number(bytes.toString('latin1', 9, 12))
      const length = bytes.indexOf('content-length: ')
      this.#expected = head + 4 + Number.parseInt(bytes.toString('latin1', length + 16, length + 24), 10) - bytes.length
    }
    if (this.#expected === 0) this.onResponse(this.#status)
  }
}
