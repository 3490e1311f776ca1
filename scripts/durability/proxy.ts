import { EventEmitter, once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { applicationName, MessageReader, withSetting } from './messages.ts'

/** The network between the API and PostgreSQL, which can be told to misbehave. Loopback only. */
export interface Network {
  port: number
  /** From now on new connections go there, as when the endpoint of a Service changes; the others stay where they are. */
  lead(target: Target): void
  /**
   * From now on nothing gets through, and nobody is told: what comes is lost, and a new connection stays silent. After
   * `heal` new connections work; those that lost something stay silent for ever, as behind a NAT that forgot them.
   */
  drop(): void
  heal(): void
  /** Everything takes so long, in milliseconds and at most: each piece anew. 0: as fast as it goes. */
  delay(milliseconds: number): void
  /** Ends one direction of every connection, and leaves the other open. */
  halfClose(direction: 'to the API' | 'to PostgreSQL'): void
  /**
   * Cuts a connection that writes at the end of its next transaction, once for each call: before the message that
   * commits gets to PostgreSQL; after the commit, before the API hears of it; or in the middle of that answer.
   * @param silently nobody is told: from there on the connection is dead, and looks alive
   */
  cutCommit(at: CommitCut, silently?: boolean): Promise<void>
  /**
   * Holds up the end of the next COPY, which then has written its rows and not committed them. For a fault that interrupts it.
   * @throws when none begins in a minute
   */
  amidCopy(): Promise<HeldCopy>
  /** What became of the COPYs so far. */
  readonly copies: Readonly<Copies>
  /**
   * New connections get this setting instead of the value that they ask for, as behind a pooler that drops their options, where
   * the settings of the role apply. Absent: what they ask for.
   */
  impose(setting?: Setting): void
  /** Statements of writers that PostgreSQL has cancelled because of lock_timeout or statement_timeout. */
  readonly timeouts: number
  /** Resolves when a connection of this application_name comes, the next one. */
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

export interface HeldCopy {
  /** Of its backend. */
  pid: number
  release(): void
  /** Resolves when the COPY is interrupted or PostgreSQL answers it. */
  over: Promise<void>
}

export interface Copies {
  /** Rows that PostgreSQL says it has copied, whether or not the API heard of it. */
  rows: number
  /** COPYs that a fault held up in order to interrupt them, but for those that failed meanwhile because of their rows. */
  aimed: number
  /** COPYs that were interrupted: the API got no answer, or an error that is not about a row. */
  hit: number
}

export type CommitCut = 'before' | 'after' | 'half'

interface Link {
  api: Socket
  database: Socket
  /** Something was lost on it: it is dead, and looks alive. */
  dead: boolean
  /** Of the backend. */
  pid: number
  /** A COPY has begun, and the API has no answer yet; `held`: it is counted as aimed at; `hit`: as interrupted. */
  copy: 'none' | 'under way' | 'held' | 'hit'
  /** Called when a COPY that was held is over. */
  copyOver?: () => void
}

const STALLED_MS = 60_000

/** @param pooler connections get numbers of the network's own, which are not those of their backends */
export async function openNetwork(first: Target, { pooler = false } = {}): Promise<Network> {
  const links = new Set<Link>()
  let target = first
  let [dropping, delayMs] = [false, 0]
  let cut: { at: CommitCut; silently: boolean; done: () => void } | undefined
  const copies: Copies = { rows: 0, aimed: 0, hit: 0 }
  let holdCopy: ((held: HeldCopy) => void) | undefined
  let imposed: Setting | undefined
  let timeouts = 0
  const logins = new EventEmitter()
  // allowHalfOpen: an end is passed on, or made, one direction at a time.
  const server = createServer({ allowHalfOpen: true }, accept).listen(0, '127.0.0.1')
  await once(server, 'listening')

  return {
    port: (server.address() as AddressInfo).port,
    lead: (next) => {
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
    amidCopy: async () => {
      const { promise, resolve, reject } = Promise.withResolvers<HeldCopy>()
      holdCopy = resolve
      const timer = setTimeout(() => reject(new Error('No COPY began in a minute')), STALLED_MS)
      return promise.finally(() => clearTimeout(timer))
    },
    copies,
    impose: (setting) => {
      imposed = setting
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
      // 'close' comes after it.
      socket.on('error', () => {})
      // Of a connection that is dead neither side learns what became of the other.
      socket.on('close', () => {
        hitCopy(link)
        link.copy = 'none'
        if (!link.dead) end(link)
      })
    }
    let writes = false
    // Of the transaction, from the last ReadyForQuery: I when there is none.
    let state = 'I'
    let committing = false
    const requests = new MessageReader('client')
    const answers = new MessageReader('server')

    forward(link, api, database, (bytes) => {
      for (const { type, message } of requests.read(bytes)) {
        if (type === 'startup') {
          const name = applicationName(message) ?? ''
          writes = name === 'sluice-write'
          logins.emit(name)
          if (imposed !== undefined) {
            database.write(withSetting(message, imposed.name, imposed.value))
            continue
          }
        }
        committing ||= writes && commits(type, message, state)
        if (committing && cut?.at === 'before') return breakOff(link)
        // Not one that has failed by now.
        if (type === 'c' && holdCopy !== undefined && link.copy === 'under way') {
          const { promise: over, resolve } = Promise.withResolvers<void>()
          copies.aimed++
          link.copy = 'held'
          link.copyOver = resolve
          // The client sends nothing more until it has an answer.
          holdCopy({ pid: link.pid, release: () => pass(link, database, () => database.write(message)), over })
          holdCopy = undefined
        } else database.write(message)
      }
    })
    forward(link, database, api, (bytes) => {
      for (const { type, message } of answers.read(bytes)) {
        // BackendKeyData
        if (type === 'K') {
          link.pid = message.readInt32BE(5)
          if (pooler) message.writeInt32BE(1, 5)
        }
        if (type === 'Z') {
          state = String.fromCharCode(message[5] as number)
          committing = false
        }
        // CopyInResponse; and its end, with or without success.
        if (type === 'G') link.copy = 'under way'
        if (type === 'C' && link.copy !== 'none') copies.rows += copiedRows(message)
        if (type === 'E' && !isRowError(message)) hitCopy(link)
        if (type === 'E' && writes && isTimeout(message)) timeouts++
        // CommandComplete. The server says so after the commit: it keeps its answer until it waits for the client again.
        if (type === 'C' && committing && cut !== undefined) {
          if (cut.at === 'half') api.write(message.subarray(0, message.length >> 1))
          return breakOff(link)
        }
        if (type === 'C' || type === 'E') {
          // Nobody hears of its end where that direction is closed.
          if (!api.writable) hitCopy(link)
          if (type === 'E' && link.copy === 'held') copies.aimed--
          link.copy = 'none'
          link.copyOver?.()
        }
        api.write(message)
      }
    })
  }

  /** Hands on what comes, in its order; each piece waits its time. */
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

  /** Unless the network drops it. */
  function pass(link: Link, to: Socket, send: () => void): void {
    if (dropping) die(link)
    if (!link.dead && !to.destroyed) send()
  }

  function die(link: Link): void {
    link.dead = true
    hitCopy(link)
  }

  function hitCopy(link: Link): void {
    if (link.copy === 'under way' || link.copy === 'held') {
      copies.hit++
      link.copy = 'hit'
      link.copyOver?.()
    }
  }

  function breakOff(link: Link): void {
    const { silently, done } = cut as NonNullable<typeof cut>
    cut = undefined
    if (silently) die(link)
    else end(link)
    done()
  }

  function end(link: Link): void {
    links.delete(link)
    // What was written before gets through; then a reset would be as good.
    link.api.destroySoon()
    link.database.destroy()
  }
}

/** Does the server commit when it has this message? */
const commits = (type: string, message: Buffer, state: string): boolean =>
  // Sync after a statement outside a transaction; the end of a COPY, which is never in one; or the statement COMMIT.
  (type === 'S' && state === 'I') || type === 'c' || (type === 'Q' && /^commit/i.test(message.toString('latin1', 5)))

/** CommandComplete: `COPY 17`. */
const copiedRows = (message: Buffer): number => Number(/^COPY (\d+)\0$/.exec(message.toString('latin1', 5))?.[1] ?? 0)

/** ErrorResponse: a field for each letter, C with the SQLSTATE. 22 and 23: a value is at fault, or the identity is there already. */
const isRowError = (message: Buffer): boolean => /\0C2[23]/.test(message.toString('latin1', 5))

/** A person who cancels a statement causes the same SQLSTATE as statement_timeout; only the text tells them apart. */
const isTimeout = (message: Buffer): boolean => /due to (lock|statement) timeout/.test(message.toString('latin1', 5))
