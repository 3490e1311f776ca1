import type { Postgres } from './postgres.ts'
import type { Stage } from './stage.ts'

/** Something that breaks, while clients store records. */
export interface Fault {
  /** For --only. */
  name: string
  title: string
  /** The same, as it is when it is quick. */
  quickTitle: string
  /** Settings of the API that differ from the default. */
  env?: Record<string, string>
  quickEnv?: Record<string, string>
  /** Instances of the API, if more than one. */
  instances?: number
  /** A PostgreSQL of its own, below this folder; it resolves with undefined where the machine does not allow it. */
  open?(folder: string): Promise<Postgres | undefined>
  /** May clients see errors? Only where the window is exceeded, or the API itself is killed, and only up to a bound. */
  errors?: ErrorBound
  /** May connections be refused, since the API is away for a while? */
  unreachable?: true
  /** Breaks it, mends it, and says what it did that is worth knowing. */
  inflict(stage: Stage, quick: boolean): Promise<string | undefined>
}

/** The most requests that may fail in a fault. */
export interface ErrorBound {
  most(run: { clients: number; quick: boolean; holdMs: number; brokenMs: number }): number
  /** For people. */
  because: string
}
