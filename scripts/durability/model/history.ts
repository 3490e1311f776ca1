import type { Bad } from './bad-records.ts'
import { Moments } from './moments.ts'

// Everything that clients sent, got as responses, and read in a round. Times are milliseconds since the start of the round.

/** What a response says about one record. */
export type Claim =
  | 'created'
  | 'duplicate'
  /** Created or a duplicate. The response to a line stream has only counts. */
  | 'stored'
  | 'conflict'
  | 'refused'
  | 'not_written'
  /** There was no complete response, or the response says that the outcome is unknown. */
  | 'unknown'

/** One record of one request. */
export interface Attempt {
  exchange: Exchange
  index: number
  /** If the server makes the id, this is the source, which then no other record has. */
  identity: string
  source: string
  /** Undefined if the server makes it. */
  id: string | undefined
  key: string
  digest: string
  bad: Bad | undefined
  claim: Claim
  cursor: string | undefined
}

/** One request and its response. */
export interface Exchange {
  number: number
  /** Format and options, as text. */
  what: string
  strict: boolean
  port: number
  begin: number
  end: number
  /** Status, code and outcome of the response, or why there is none, as text. */
  response: string
  /** How many records the response counts as created, if it does not say which. They are among those with the claim `stored`. */
  createdLines: number | undefined
  /** How many lines the report of a failed stream counts as stored, including lines after committedLines. */
  storedLines: number | undefined
  attempts: Attempt[]
}

/** A record that a reader saw. */
export interface Sighting {
  by: string
  begin: number
  end: number
  cursor: string
  digest: string
}

/** A read of a single record that got 404. */
export interface Absence {
  begin: number
  end: number
}

export interface Finding {
  /** The rule that is violated, as a sentence. */
  rule: string
  at: number
  detail: string
  identity?: string
}

export interface IdentityHistory {
  attempts: Attempt[]
  sightings: Sighting[]
  absences: Absence[]
}

/** Retention deletes records with this source prefix during the round. Their identities can then be created again. */
export const DELETABLE = 'model/gone/'
/** The name of the fault that runs retention. */
export const RETENTION = 'retention'
/** For records with this source prefix, the server makes the ids. */
export const MADE = 'model/made/'

export const isDeletable = (identity: string): boolean => identity.startsWith(DELETABLE)

/** The response says that a record with this identity is stored. */
export const isAcknowledged = ({ claim }: Attempt): boolean =>
  claim === 'created' || claim === 'duplicate' || claim === 'stored' || claim === 'conflict'

export const identityOf = (source: string, id: string | undefined): string =>
  source.startsWith(MADE) ? source : `${source} ${id}`

export class History {
  readonly exchanges: Exchange[] = []
  readonly identities = new Map<string, IdentityHistory>()
  /** The faults of the round, by name. */
  readonly faults: { begin: number; end: number; what: string }[] = []
  /** For each fault that made a timeout small: how many statements the timeout cancelled. */
  readonly timeouts: { fault: string; hits: number }[] = []
  readonly findings: Finding[] = []
  readonly #start = performance.now()
  readonly moments = new Moments(() => this.now())

  now(): number {
    return Math.round(performance.now() - this.#start)
  }

  of(identity: string): IdentityHistory {
    let history = this.identities.get(identity)
    if (history === undefined) {
      history = { attempts: [], sightings: [], absences: [] }
      this.identities.set(identity, history)
    }
    return history
  }

  add(exchange: Exchange): void {
    this.exchanges.push(exchange)
    for (const attempt of exchange.attempts) this.of(attempt.identity).attempts.push(attempt)
  }

  complain(rule: string, detail: string, identity?: string): void {
    this.findings.push({ rule, detail, at: this.now(), ...(identity === undefined ? {} : { identity }) })
  }

  /** Causes a fault and records its time, even if it fails. */
  async during(what: string, apply: () => Promise<unknown>): Promise<void> {
    const entry = { begin: this.now(), end: Number.POSITIVE_INFINITY, what }
    this.faults.push(entry)
    await apply().finally(() => {
      entry.end = this.now()
    })
  }

  /** Whether retention can have deleted a record between these two times. */
  mayHaveRemoved(from: number, to: number): boolean {
    return this.faults.some(({ what, begin, end }) => what === RETENTION && begin <= to && end >= from)
  }
}
