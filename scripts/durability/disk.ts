import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from '../../db/embedded/run.ts'
import { openPostgres, type Postgres } from './postgres.ts'

/** Room for a new cluster, and little more. */
const SIZE_MIB = 256
/** Less write-ahead log than usual, so that there is room. */
const SETTINGS = { min_wal_size: '32MB', max_wal_size: '64MB' }

const CHUNK = Buffer.alloc(64 * 1024)

/** A PostgreSQL on a small file system of its own; undefined where nobody lets us mount one. */
export async function openOnSmallDisk(folder: string): Promise<Postgres | undefined> {
  const small = join(folder, 'small')
  await mkdir(small, { recursive: true })
  // What a run that was killed left there.
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

/** Fills the file system of a folder to the last byte. @returns what makes room again */
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
