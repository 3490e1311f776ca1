import { createHmac, randomBytes } from 'node:crypto'
import { access, chown, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { EmbeddedError } from './error.ts'
import type { Home } from './home.ts'
import { run } from './run.ts'

/** Creates the database files unless they exist. Returns a function from the name of a role to its password. */
export async function ensureCluster(home: Home): Promise<(role: string) => string> {
  if (!(await exists(home.cluster))) await makeCluster(home)

  const major = (await readFile(join(home.data, 'PG_VERSION'), 'utf8')).trim()
  if (major !== home.binaries.major) {
    throw new EmbeddedError(
      `The database in ${home.data} was created by PostgreSQL ${major}, but this is PostgreSQL ${home.binaries.major}. ` +
        `Move that folder away to start with an empty database, or go back to PostgreSQL ${major} to keep it.`,
    )
  }
  const secret = await readFile(join(home.cluster, 'secret'), 'utf8')
  return (role) => passwordOf(secret, role)
}

// Creates the files in a temporary folder and renames that. So two processes that start at the same time do not mix their files,
// a killed process leaves no incomplete database, and the secret exists if and only if the data does.
async function makeCluster({ cluster, user, binaries }: Home): Promise<void> {
  const temporary = await mkdtemp(`${cluster}.new-`)
  const secret = randomBytes(32).toString('base64url')
  const passwordFile = join(temporary, 'password')
  const own = async (path: string) => user && chown(path, user.uid, user.gid)

  await writeFile(join(temporary, 'secret'), secret, { mode: 0o600 })
  await writeFile(passwordFile, passwordOf(secret, 'postgres'), { mode: 0o600 })
  await Promise.all([own(temporary), own(passwordFile), own(join(temporary, 'secret'))])

  const made = await run(
    binaries.initdb,
    [
      `--pgdata=${join(temporary, 'data')}`,
      '--username=postgres',
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      '--locale=C',
      '--no-instructions',
    ],
    user,
  )
  await rm(passwordFile, { force: true })
  if (made.ok) await rename(temporary, cluster).catch(() => undefined)

  // If another process was faster, initdb or the rename may have failed, but the database exists.
  if (!(await exists(cluster))) {
    await rm(temporary, { recursive: true, force: true })
    // The rest of the output lists the steps before the failure.
    const reasons = made.output.split('\n').filter((line) => /error|fatal|panic|could not/i.test(line))
    throw new EmbeddedError(
      `PostgreSQL could not create a database in ${cluster}: ${reasons.join('\n') || made.output}`,
    )
  }
  await removeUnfinished(cluster)
}

// Deletes the folders of killed processes, and of slower ones that are still running: those then use the finished database.
async function removeUnfinished(cluster: string): Promise<void> {
  for (const name of await readdir(dirname(cluster))) {
    if (!name.startsWith(`${basename(cluster)}.new-`)) continue
    await rm(join(dirname(cluster), name), { recursive: true, force: true, maxRetries: 3 })
  }
}

const passwordOf = (secret: string, role: string) => createHmac('sha256', secret).update(role).digest('base64url')

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  )
