import type { Postgres } from './postgres.ts'
import type { Stage } from './stage.ts'

/** A fault that occurs while clients store records. */
export interface Fault {
  /** The value of --only. */
  name: string
  title: string
  /** The title of the short form. */
  quickTitle: string
  /** Settings of the API, if they differ from the defaults. */
  env?: Record<string, string>
  quickEnv?: Record<string, string>
  /** Number of instances of the API. Default: 1. */
  instances?: number
  /** Starts a PostgreSQL for this fault below a folder. Resolves with undefined if this machine does not allow it. */
  open?(folder: string): Promise<Postgres | undefined>
  /** How many requests may fail. Present only if the outage exceeds the hold window, or if the API itself is killed. */
  errors?: ErrorBound
  /** Connections may be refused, because no instance of the API runs for a while. */
  unreachable?: true
  /** Causes the fault and repairs it. @returns a note for the report */
  apply(stage: Stage, quick: boolean): Promise<string | undefined>
}

/** The maximum number of requests that may fail during a fault. */
export interface ErrorBound {
  most(run: { clients: number; quick: boolean; holdMs: number; brokenMs: number }): number
  /** The reason, as text. */
  because: string
}
