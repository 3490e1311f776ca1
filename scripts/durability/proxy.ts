import { EventEmitter, once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { applicationName, MessageReader, withSetting } from './messages.ts'

/** A proxy between the API and PostgreSQL that simulates faults of the network. Listens on loopback only. */
export interface Network {
  port: number
  /** Sends new connections to another target, as when the endpoint of a Service changes. Open connections stay. */
  redirect(target: Target): void
  /**
   * Drops all bytes from now on without closing connections. New connections are accepted, but stay silent. After `heal`, new
   * connections work, but those that lost bytes stay silent forever, as behind a NAT that forgot them.
   */
  drop(): void
  heal(): void
  /** Delays each chunk by a random time up to this maximum, in milliseconds. 0: no delay. */
  delay(milliseconds: number): void
  /** Closes one direction of every connection, and leaves the other open. */
  halfClose(direction: 'to the API' | 'to PostgreSQL'): void
  /**
   * Cuts the next connection of a writer that commits, once per call: before the message that commits reaches PostgreSQL (before),
   * after the commit, but before its response reaches the API (after), or in the middle of this response (half).
   * @param silently the connection is not closed, but drops all bytes from then on
   */
  cutCommit(at: CommitCut, silently?: boolean): Promise<void>
  /**
   * Holds back the end of the next COPY, so that its rows are written, but not committed. A fault can then interrupt it.
   * @throws if no COPY begins in a minute
   */
  pauseCopy(): Promise<HeldCopy>
  /** What has happened to COPYs so far. */
  readonly copies: Readonly<Copies>
  /**
   * Overrides a setting that new connections ask for, as if someone had changed it in their session. Without an argument, connections get what they ask for.
   */
  applySetting(setting?: Setting): void
  /** Number of statements of writers that PostgreSQL has cancelled because of lock_timeout or statement_timeout. */
  readonly timeouts: number
  /** Resolves at the next connection with this application_name. */
  loggedIn(name: string): Promise<void>
  close(): void
}

export interface Target {
  host: string
  port: number
}

export interface Setting {
  name: string
  value: string
}

interface HeldCopy {
  /** The process id of its backend. */
  pid: number
  release(): void
  /** Resolves when the COPY is interrupted or PostgreSQL responds to it. */
  over: Promise<void>
}

export interface Copies {
  /** Rows that PostgreSQL reported as copied, even if the report did not reach the API. */
  rows: number
  /** COPYs that a fault held back in order to interrupt them, except those that then failed because of a row. */
  aimed: number
  /** COPYs that were interrupted: the API got no response, or an error that is not about a row. */
  hit: number
}

export type CommitCut = 'before' | 'after' | 'half'

interface Link {
  api: Socket
  database: Socket
  /** It has lost bytes. It stays open, but is silent from then on. */
  dead: boolean
  /** The process id of the backend. */
  pid: number
  /** A COPY has begun, and the API has no response yet; `held`: counted in `aimed`; `hit`: counted in `hit`. */
  copy: 'none' | 'running' | 'held' | 'hit'
  /** Called when a COPY that was held is over. */
  copyOver?: () => void
}

const STALLED_MS = 60_000

/** @param pooler connections get process ids that are not those of their backends, as behind a pooler */
export async function openNetwork(first: Target, { pooler = false } = {}): Promise<Network> {
  const links = new Set<Link>()
  let target = first
  let [dropping, delayMs] = [false, 0]
  let cut: { at: CommitCut; silently: boolean; done: () => void } | undefined
  const copies: Copies = { rows: 0, aimed: 0, hit: 0 }
  let holdCopy: ((held: HeldCopy) => void) | undefined
  let override: Setting | undefined
  let timeouts = 0
  const logins = new EventEmitter()
  // allowHalfOpen, because each direction of a connection is closed separately.
  const server = createServer({ allowHalfOpen: true }, accept).listen(0, '127.0.0.1')
  await once(server, 'listening')

  return {
    port: (server.address() as AddressInfo).port,
    redirect: (next) => {
      target = next
    },
    drop: () => {
      dropping = true
    },
    heal: () => {
      dropping = false
    },
    delay: (milliseconds) => {
      delayMs = milliseconds
    },
    halfClose: (direction) => {
      for (const { api, database } of links) (direction === 'to the API' ? api : database).end()
    },
    cutCommit: (at, silently = false) => {
      const { promise, resolve } = Promise.withResolvers<void>()
      cut = { at, silently, done: resolve }
      return promise
    },
    pauseCopy: async () => {
      const { promise, resolve, reject } = Promise.withResolvers<HeldCopy>()
      holdCopy = resolve
      const timer = setTimeout(() => reject(new Error('No COPY began in a minute')), STALLED_MS)
      return promise.finally(() => clearTimeout(timer))
    },
    copies,
    applySetting: (setting) => {
      override = setting
    },
    get timeouts() {
      return timeouts
    },
    loggedIn: async (name) => void (await once(logins, name)),
    close() {
      server.close()
      for (const link of links) end(link)
    },
  }

  function accept(api: Socket): void {
    const database = connect({ ...target, allowHalfOpen: true })
    const link: Link = { api, database, dead: dropping, pid: 0, copy: 'none' }
    links.add(link)
    for (const socket of [api, database]) {
      socket.setNoDelay(true)
      // 'close' follows.
      socket.on('error', () => {})
      // If the link is dead, neither side notices that the other one has closed.
      socket.on('close', () => {
        hitCopy(link)
        link.copy = 'none'
        if (!link.dead) end(link)
      })
    }
    let writes = false
    // The state of the transaction in the last ReadyForQuery. I means that there is no transaction.
    let state = 'I'
    let committing = false
    const requests = new MessageReader('client')
    const responses = new MessageReader('server')

    forward(link, api, database, (bytes) => {
      for (const { type, message } of requests.read(bytes)) {
        if (type === 'startup') {
          const name = applicationName(message) ?? ''
          writes = name === 'sluice-write'
          logins.emit(name)
        }
        if (type === 'Q' && override !== undefined && message.includes(`set_config('${override.name}'`)) {
          database.write(withSetting(message, override.name, override.value))
          continue
        }
        committing ||= writes && commits(type, message, state)
        if (committing && cut?.at === 'before') return cutNow(link)
        // Skip a COPY that has already failed.
        if (type === 'c' && holdCopy !== undefined && link.copy === 'running') {
          const { promise: over, resolve } = Promise.withResolvers<void>()
          copies.aimed++
          link.copy = 'held'
          link.copyOver = resolve
          // The client sends nothing more until it has a response.
          holdCopy({ pid: link.pid, release: () => pass(link, database, () => database.write(message)), over })
          holdCopy = undefined
        } else database.write(message)
      }
    })
    forward(link, database, api, (bytes) => {
      for (const { type, message } of responses.read(bytes)) {
        // BackendKeyData
        if (type === 'K') {
          link.pid = message.readInt32BE(5)
          if (pooler) message.writeInt32BE(1, 5)
        }
        if (type === 'Z') {
          state = String.fromCharCode(message[5] as number)
          committing = false
        }
        // CopyInResponse starts a COPY. CommandComplete or ErrorResponse ends it.
        if (type === 'G') link.copy = 'running'
        if (type === 'C' && link.copy !== 'none') copies.rows += copiedRows(message)
        if (type === 'E' && !isRowError(message)) hitCopy(link)
        if (type === 'E' && writes && isTimeout(message)) timeouts++
        // CommandComplete. It arrives after the commit, because the server sends its output only when it waits for the client again.
        if (type === 'C' && committing && cut !== undefined) {
          if (cut.at === 'half') api.write(message.subarray(0, message.length >> 1))
          return cutNow(link)
        }
        if (type === 'C' || type === 'E') {
          // If this direction is closed, the API does not learn how the COPY ended.
          if (!api.writable) hitCopy(link)
          if (type === 'E' && link.copy === 'held') copies.aimed--
          link.copy = 'none'
          link.copyOver?.()
        }
        api.write(message)
      }
    })
  }

  /** Forwards chunks in order, each after its delay. */
  function forward(link: Link, from: Socket, to: Socket, send: (bytes: Buffer) => void): void {
    let [last, waiting] = [Promise.resolve(), 0]
    const inOrder = async (work: () => void) => {
      const ready = sleep(Math.random() * delayMs)
      waiting++
      last = last.then(() => ready).then(work)
      await last
      waiting--
    }
    const close = () => {
      if (!link.dead) to.end()
    }
    from.on('data', (bytes) => {
      const work = () => pass(link, to, () => send(bytes))
      if (delayMs === 0 && waiting === 0) work()
      else void inOrder(work)
    })
    from.on('end', () => {
      hitCopy(link)
      if (waiting === 0) close()
      else void inOrder(close)
    })
  }

  /** Forwards a chunk, unless the network drops it. */
  function pass(link: Link, to: Socket, send: () => void): void {
    if (dropping) die(link)
    if (!link.dead && !to.destroyed) send()
  }

  function die(link: Link): void {
    link.dead = true
    hitCopy(link)
  }

  function hitCopy(link: Link): void {
    if (link.copy === 'running' || link.copy === 'held') {
      copies.hit++
      link.copy = 'hit'
      link.copyOver?.()
    }
  }

  function cutNow(link: Link): void {
    const { silently, done } = cut as NonNullable<typeof cut>
    cut = undefined
    if (silently) die(link)
    else end(link)
    done()
  }

  function end(link: Link): void {
    links.delete(link)
    // destroySoon() sends what was written before.
    link.api.destroySoon()
    link.database.destroy()
  }
}

/** Whether the server commits when it gets this message. */
const commits = (type: string, message: Buffer, state: string): boolean =>
  // Sync after a statement outside a transaction, the end of a COPY, which is never in a transaction, or the statement COMMIT.
  (type === 'S' && state === 'I') || type === 'c' || (type === 'Q' && /^commit/i.test(message.toString('latin1', 5)))

/** CommandComplete: `COPY 17`. */
const copiedRows = (message: Buffer): number => Number(/^COPY (\d+)\0$/.exec(message.toString('latin1', 5))?.[1] ?? 0)

/** Field C of an ErrorResponse is the SQLSTATE. Class 22: a value is invalid. Class 23: a constraint is violated. */
const isRowError = (message: Buffer): boolean => /\0C2[23]/.test(message.toString('latin1', 5))

/** A cancelled statement has the same SQLSTATE as one that ran into statement_timeout. Only the text differs. */
const isTimeout = (message: Buffer): boolean => /due to (lock|statement) timeout/.test(message.toString('latin1', 5))
