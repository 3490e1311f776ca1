import { createHash } from 'node:crypto'
import { chmod, chown, lstat, mkdir, mkdtemp, realpath, rm, stat, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { type Binaries, findBinaries } from './binaries.ts'
import { EmbeddedError } from './error.ts'
import { run, type SystemUser } from './run.ts'

/** Where the files of a server are, and which user runs it. */
export interface Home {
  /** Contains data/, server.log and secret. Created in one step; see cluster.ts. */
  cluster: string
  data: string
  log: string
  user: SystemUser
  binaries: Binaries
}

/**
 * Creates `folder` if it is missing. PostgreSQL refuses to run as root. So if this process is root, another user runs the server,
 * and the files that this user cannot reach in `folder` or node_modules go below /var/lib/sluice.
 */
export async function prepareHome(folder: string): Promise<Home> {
  await makeFolder(folder)
  const existing = await realpath(join(folder, 'postgres')).catch(() => undefined)

  const user = await serverUser(existing)
  const cluster = existing ?? (await newClusterPath(folder, user))
  const binaries = await findBinaries(user, () => makeFallback(folder))
  return { cluster, data: join(cluster, 'data'), log: join(cluster, 'server.log'), user, binaries }
}

async function makeFallback(folder: string): Promise<string> {
  const fallback = join('/var/lib/sluice', createHash('sha256').update(folder).digest('hex').slice(0, 12))
  await makeFolder('/var/lib/sluice')
  await makeFolder(fallback)
  return fallback
}

// 0711: the server's user must be able to enter. chmod, because the umask applies to the mode of mkdir.
async function makeFolder(path: string): Promise<void> {
  if (await mkdir(path, { recursive: true })) await chmod(path, 0o711)
}

async function serverUser(cluster: string | undefined): Promise<SystemUser> {
  const uid = process.getuid?.()
  const owner = cluster && (await stat(cluster))
  if (uid !== 0) {
    if (owner && uid !== undefined && owner.uid !== uid) {
      throw new EmbeddedError(
        `The database in ${cluster} belongs to another user (uid ${owner.uid}): root or someone else created it. ` +
          'Start Sluice as that user, or move the folder away to start with an empty database.',
      )
    }
    return undefined
  }

  // PostgreSQL requires that its files belong to the user that runs it.
  if (owner) return { uid: owner.uid, gid: owner.gid }
  for (const name of ['postgres', 'nobody']) {
    const [uid, gid] = await Promise.all([run('id', ['-u', name]), run('id', ['-g', name])])
    if (uid.ok && gid.ok) return { uid: Number(uid.output), gid: Number(gid.output) }
  }
  throw new EmbeddedError(
    'PostgreSQL does not run as root, and neither the user postgres nor the user nobody exists. ' +
      'Start Sluice as another user, or set DATABASE_URL to a PostgreSQL 18 of your own.',
  )
}

async function newClusterPath(folder: string, user: SystemUser): Promise<string> {
  const path = join(folder, 'postgres')
  // A broken link: the repository was kept, but /var/lib was not.
  const link = await lstat(path).catch(() => undefined)
  if (link?.isSymbolicLink()) await rm(path, { force: true })
  if (await canWrite(folder, user)) return path

  const target = join(await makeFallback(folder), 'postgres')
  await symlink(target, path).catch((error) => {
    if (error.code !== 'EEXIST') throw error
  })
  return target
}

// Tests this by trying, because modes, ACLs, mount options and all parent folders matter.
async function canWrite(folder: string, user: SystemUser): Promise<boolean> {
  if (!user) return true
  const probe = await mkdtemp(join(folder, 'probe-'))
  try {
    await chown(probe, user.uid, user.gid)
    return (await run('test', ['-w', probe], user)).ok
  } finally {
    await rm(probe, { recursive: true })
  }
}
