import { createHmac, randomBytes } from 'node:crypto'
import { access, chown, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { EmbeddedError } from './error.ts'
import type { Home } from './home.ts'
import { run } from './run.ts'

/** Makes the database's files unless they are there, and returns the password of any role: a function of its name. */
export async function ensureCluster(home: Home): Promise<(role: string) => string> {
  if (!(await exists(home.cluster))) await makeCluster(home)

  const major = (await readFile(join(home.data, 'PG_VERSION'), 'utf8')).trim()
  if (major !== home.binaries.major) {
    throw new EmbeddedError(
      `The database in ${home.data} was made by PostgreSQL ${major}, and this is PostgreSQL ${home.binaries.major}. ` +
        `Move that folder away to begin with an empty database, or go back to PostgreSQL ${major} to keep it.`,
    )
  }
  const secret = await readFile(join(home.cluster, 'secret'), 'utf8')
  return (role) => passwordOf(secret, role)
}

// In a folder beside its place, then moved there in one step: two that start at once cannot make half a database each,
// one that is killed leaves none behind, and the secret cannot get lost without the data that it opens.
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

  // Neither is a failure if another start was faster: it then removed our files, or took the place.
  if (!(await exists(cluster))) {
    await rm(temporary, { recursive: true, force: true })
    throw new EmbeddedError(`PostgreSQL could not make a database in ${cluster}: ${made.output}`)
  }
  await removeUnfinished(cluster)
}

// What killed starts left behind, and what a slower one is still making: it finds the finished one.
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
