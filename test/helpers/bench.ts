import { execFile } from 'node:child_process'
import { sql } from 'kysely'
import type { Test } from 'tap'
import { connect } from './connect.ts'
import { createDatabase } from './postgres.ts'
import { UNSHED } from './unshed.ts'

/** Runs the bench, as a process. */
export async function openBench(t: Test) {
  const { superUrl, name } = await createDatabase(t)
  return { bench, benchWith, benchDatabaseExists }

  function bench(only: string, ...args: string[]) {
    return run(only, args, {})
  }

  /** The same, with a file of test/fixtures that each of its processes loads. */
  function benchWith(fixture: string, only: string, ...args: string[]) {
    const file = new URL(`../fixtures/${fixture}.ts`, import.meta.url).href
    return run(only, args, { NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --import=${file}` })
  }

  function run(only: string, args: string[], more: Record<string, string>) {
    const env = { ...process.env, ...UNSHED, DATABASE_URL: superUrl, ...more }
    const all = ['scripts/bench/main.ts', '--rounds', '1', '--only', only, ...args]
    return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
      const child = execFile(process.execPath, all, { env }, (_error, stdout, stderr) =>
        resolve({ code: child.exitCode ?? -1, stdout, stderr }),
      )
    })
  }

  /** The database that the bench creates next to the given one. */
  async function benchDatabaseExists(): Promise<boolean> {
    const db = connect(superUrl)
    try {
      const { rows } = await sql`SELECT FROM pg_database WHERE datname = ${`${name}_bench`}`.execute(db)
      return rows.length > 0
    } finally {
      await db.destroy()
    }
  }
}
