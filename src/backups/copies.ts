import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { Bucket } from './bucket.ts'

/** The name of a folder that k8s/components/backup/backup.sh made. */
const NAME = /^sluice-\d{8}T\d{6}Z$/

/** The checksums are last: object storage cannot create a folder in one step, so a backup is complete only with its checksums. */
const FILES = ['sluice.dump', 'manifest.json', 'SHA256SUMS'] as const

/** Uploads the backups of a folder that the bucket does not have, oldest first. @returns their names and total size */
export async function uploadBackups(bucket: Bucket, folder: string): Promise<{ names: string[]; bytes: number }> {
  const uploaded: string[] = []
  let bytes = 0
  for (const name of (await readdir(folder)).filter((name) => NAME.test(name)).sort()) {
    if (await bucket.exists(`${name}/SHA256SUMS`)) continue
    await verify(join(folder, name))
    for (const file of FILES) bytes += await bucket.put(`${name}/${file}`, join(folder, name, file))
    uploaded.push(name)
  }
  return { names: uploaded, bytes }
}

/** The names of the backups in the bucket, oldest first. */
export async function listBackups(bucket: Bucket): Promise<string[]> {
  return (await bucket.names()).filter((name) => NAME.test(name))
}

/** Downloads a backup into a folder. The folder appears only if the backup is complete and its checksums are correct. */
export async function downloadBackup(bucket: Bucket, name: string, folder: string): Promise<void> {
  if (!NAME.test(name))
    throw new Error(
      `${name} is not the name of a backup, such as sluice-20260131T020000Z. "sluice backups list" shows all`,
    )
  const temporary = join(folder, `.new-${name}`)
  await rm(temporary, { recursive: true, force: true })
  await mkdir(temporary, { recursive: true })
  try {
    for (const file of FILES) await bucket.get(`${name}/${file}`, join(temporary, file))
    await verify(temporary)
    await rename(temporary, join(folder, name))
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
}

async function verify(folder: string): Promise<void> {
  const sums = new Map(
    (await readFile(join(folder, 'SHA256SUMS'), 'utf8'))
      .split('\n')
      .map((line) => line.split('  ').reverse() as [string, string]),
  )
  for (const file of FILES.slice(0, 2)) {
    const hash = createHash('sha256')
    await pipeline(createReadStream(join(folder, file)), hash)
    if (hash.digest('hex') !== sums.get(file))
      throw new Error(`${join(folder, file)} is damaged: its checksum is wrong. Use another backup`)
  }
}
