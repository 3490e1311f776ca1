import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from '../../db/embedded/run.ts'
import { openPostgres, type Postgres } from './postgres.ts'

/** Slightly more than a new cluster needs. */
const SIZE_MIB = 256
/** Less write-ahead log than by default, so that the cluster fits. */
const SETTINGS = { min_wal_size: '32MB', max_wal_size: '64MB' }

const CHUNK = Buffer.alloc(64 * 1024)

/** Starts a PostgreSQL on a small file system. @returns undefined if this process is not allowed to mount one */
export async function openOnSmallDisk(folder: string): Promise<Postgres | undefined> {
  const small = join(folder, 'small')
  await mkdir(small, { recursive: true })
  // A run that was killed may have left its file system mounted.
  await run('umount', [small])
  const { ok } = await run('mount', ['-t', 'tmpfs', '-o', `size=${SIZE_MIB}m,mode=0755`, 'sluice-durability', small])
  if (!ok) return undefined
  const unmount = () => run('umount', [small])
  try {
    const postgres = await openPostgres(small, SETTINGS)
    return {
      ...postgres,
      async close() {
        await postgres.close()
        await unmount()
      },
    }
  } catch (error) {
    await unmount()
    throw error
  }
}

/** Fills the file system of a folder completely. @returns a function that frees the space again */
export async function fillDisk(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, 'ballast')
  const file = await open(path, 'w')
  try {
    for (;;) await file.write(CHUNK)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  } finally {
    await file.close()
  }
  return () => rm(path)
}
