import type { Bad } from './bad-records.ts'
import { Moments } from './moments.ts'

// All that was sent, told and seen in a round. Times are milliseconds since its beginning.

/** What an answer says about one record. */
export type Told =
  | 'created'
  | 'duplicate'
  /** Created or a duplicate: lines are counted, not listed. */
  | 'stored'
  | 'conflict'
  | 'refused'
  | 'not_written'
  /** No answer, half an answer, or one that says so. */
  | 'unknown'

/** One record of one request. */
export interface Attempt {
  exchange: Exchange
  index: number
  /** Of a record whose id the server makes: the source, which then belongs to this record alone. */
  identity: string
  source: string
  /** Absent where the server makes it. */
  id: string | undefined
  key: string
  digest: string
  bad: Bad | undefined
  told: Told
  cursor: string | undefined
}

/** One request and its answer. */
export interface Exchange {
  number: number
  /** In words: format and options. */
  what: string
  strict: boolean
  port: number
  begin: number
  end: number
  /** In words: status, code, outcome, or why there is none. */
  answer: string
  /** Lines that were told created: of those told `stored`, which ones is not known. */
  createdLines: number | undefined
  /** Of a stream that broke: lines that were told stored, with those that it does not name. */
  storedLines: number | undefined
  attempts: Attempt[]
}

/** A record that was read. */
export interface Sighting {
  by: string
  begin: number
  end: number
  cursor: string
  digest: string
}

/** A read of one record that found nothing. */
export interface Absence {
  begin: number
  end: number
}

export interface Finding {
  /** The rule that does not hold, as a sentence. */
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

/** Records below this are removed by retention while the round is played; their identities are free again then. */
export const REMOVABLE = 'model/gone/'
/** The name of the fault that removes them. */
export const RETENTION = 'retention'
/** The server makes the ids below this. */
export const MADE = 'model/made/'

export const isRemovable = (identity: string): boolean => identity.startsWith(REMOVABLE)

/** Its answer says that there is a record with this identity. */
export const isAcknowledged = ({ told }: Attempt): boolean =>
  told === 'created' || told === 'duplicate' || told === 'stored' || told === 'conflict'

export const identityOf = (source: string, id: string | undefined): string =>
  source.startsWith(MADE) ? source : `${source} ${id}`

export class History {
  readonly exchanges: Exchange[] = []
  readonly identities = new Map<string, IdentityHistory>()
  /** What was inflicted, in words. */
  readonly faults: { begin: number; end: number; what: string }[] = []
  /** For each time that a timeout was made small: how many statements ran into it. */
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

  /** Notes when a fault was inflicted, also where that fails. */
  async during(what: string, inflict: () => Promise<unknown>): Promise<void> {
    const entry = { begin: this.now(), end: Number.POSITIVE_INFINITY, what }
    this.faults.push(entry)
    await inflict().finally(() => {
      entry.end = this.now()
    })
  }

  /** May retention have removed something between these two moments? */
  mayHaveRemoved(from: number, to: number): boolean {
    return this.faults.some(({ what, begin, end }) => what === RETENTION && begin <= to && end >= from)
  }
}
