import { readFile } from 'node:fs/promises'
import pg from 'pg'
import type { FeedPage } from '../../src/client/feed.ts'
import { TryAgain } from '../../src/client/server.ts'
import { explain } from '../../src/lib/explain.ts'
import { driverUrl } from '../../src/postgres/connect.ts'
import { describeLoginFailure } from '../../src/postgres/login-failure.ts'
import { classifyFailure, sqlstateOf } from '../../src/postgres/sqlstate.ts'
import { COLUMNS, toRow } from './rows.ts'

/** If the network drops all packets, nothing else would end a statement. A page takes far less. */
const STATEMENT_MS = 60_000
const LOGIN_MS = 10_000

const CREATE = await readFile(new URL('tables.sql', import.meta.url), 'utf8')

/** Each column is one parameter, so the statement is the same for pages of any size. */
const INSERT = `
  INSERT INTO feed_records (${COLUMNS.map(({ name }) => `"${name}"`).join(', ')})
  SELECT * FROM unnest(${COLUMNS.map(({ type }, at) => `$${at + 1}::${type}[]`).join(', ')})`

/**
 * A lost connection keeps the lock on the offset until the server ends its transaction. And a commit must survive a crash, because the
 * consumer on the server says afterwards that this page is read.
 */
const SET_UP = `
  SELECT set_config('idle_in_transaction_session_timeout', '${STATEMENT_MS}', false),
         CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END`

/** The database to which records are copied. Errors that may pass are TryAgain, and then a COMMIT may have succeeded. */
export class Target {
  readonly #url: string
  #client: pg.Client | undefined

  constructor(url: string) {
    this.#url = url
  }

  /** Creates the tables, unless they exist. @returns the offset to continue from, and the filter of the records before it */
  prepare(offset: string, filter: string): Promise<{ offset: string; filter: string }> {
    return this.#transaction(async (client) => {
      // Two processes that create the same table would fail.
      await client.query(`SELECT pg_advisory_xact_lock(hashtext('feed_offset'))`)
      const { rows } = await client.query(`SELECT to_regclass('feed_offset') IS NOT NULL AS exists`)
      if (!rows[0].exists) {
        await client.query(CREATE)
        await client.query(`INSERT INTO feed_offset ("offset", filter) VALUES ($1, $2)`, [offset, filter])
      }
      return (await client.query(`SELECT "offset", filter FROM feed_offset`)).rows[0]
    })
  }

  /**
   * Stores the records of a page and its offset in one transaction, if the stored offset is still `after`. The lock on the row lets
   * another process wait, and then it finds another offset.
   * @returns the offset that was stored before
   */
  store({ records, next }: FeedPage, after: string): Promise<string> {
    const rows = records.map(toRow)
    return this.#transaction(async (client) => {
      const { rows: found } = await client.query(`SELECT "offset" FROM feed_offset FOR UPDATE`)
      const stored: string = found[0]?.offset
      if (stored !== after) return stored
      if (rows.length > 0)
        await client.query(
          INSERT,
          COLUMNS.map(({ name }) => rows.map((row) => row[name])),
        )
      await client.query(`UPDATE feed_offset SET "offset" = $1`, [next])
      return stored
    })
  }

  async close(): Promise<void> {
    await this.#client?.end().catch(() => {})
  }

  async #transaction<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    try {
      this.#client ??= await open(this.#url)
      await this.#client.query('BEGIN ISOLATION LEVEL READ COMMITTED')
      const result = await work(this.#client)
      await this.#client.query('COMMIT')
      return result
    } catch (error) {
      const isLogin = this.#client === undefined
      void this.close()
      this.#client = undefined
      const reason = isLogin ? describeLoginFailure(error, 'TARGET_DATABASE_URL', this.#url) : explain(error)
      const isTransient = classifyFailure(error).kind === 'transient' && !isRefusal(error)
      throw new (isTransient ? TryAgain : Error)(`The target database: ${reason}`)
    }
  }
}

/** A wrong password, role or database, which do not pass. The driver's error for a missing password has no code. */
const isRefusal = (error: unknown): boolean =>
  /^(?:28|3D)/.test(sqlstateOf(error) ?? '') || /client password must be/.test(explain(error))

async function open(url: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: driverUrl(url),
    application_name: 'feed-to-postgres',
    connectionTimeoutMillis: LOGIN_MS,
    query_timeout: STATEMENT_MS,
    keepAlive: true,
  })
  // Without a listener, a lost connection would end the process. The next statement fails, and that is handled.
  client.on('error', () => {})
  try {
    await client.connect()
    await client.query(SET_UP)
    return client
  } catch (error) {
    // If there is no password, the driver leaves the connection open.
    void client.end().catch(() => {})
    throw error
  }
}
