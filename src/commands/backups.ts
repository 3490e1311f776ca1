import { type Bucket, openBucket } from '../backups/bucket.ts'
import { downloadBackup, listBackups, uploadBackups } from '../backups/copies.ts'
import { type Config, loadConfig } from '../config.ts'
import { recordJobRun } from '../data/jobs.ts'
import { printable } from '../lib/printable.ts'
import { openCommandLog } from './command-log.ts'
import { withConnection } from './database.ts'

/** `sluice backups upload`: also records the result of the run in the database of DATABASE_URL, if it is set. */
export async function runUpload(folder: string): Promise<void> {
  const config = loadConfig()
  const logger = openCommandLog(config.LOG_LEVEL)
  const begun = performance.now()
  const report = async (succeeded: boolean, figures: Record<string, number>) => {
    const seconds = (performance.now() - begun) / 1000
    if (config.DATABASE_URL === undefined) return
    await withConnection(
      config.DATABASE_URL,
      (db) => recordJobRun(db, { job: 'backup_upload', succeeded, seconds, figures, totals: {} }),
      config.CONNECT_WAIT_SECONDS,
    ).catch((err) => logger.error({ err }, 'the result of this run could not be recorded in sluice.jobs'))
  }
  try {
    const { names, bytes } = await uploadBackups(bucketOf(config), folder)
    logger.info({ backups: names, bytes }, names.length > 0 ? 'uploaded' : 'nothing to upload')
    await report(true, { bytes, uploaded: names.length })
  } catch (error) {
    await report(false, {})
    throw error
  }
}

/** `sluice backups list` */
export async function runList(): Promise<void> {
  for (const name of await listBackups(bucketOf(loadConfig()))) console.log(printable(name))
}

/** `sluice backups download` */
export async function runDownload(name: string, folder: string): Promise<void> {
  await downloadBackup(bucketOf(loadConfig()), name, folder)
}

function bucketOf(config: Config): Bucket {
  const { BACKUP_BUCKET_URL: url, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION } = config
  if (url === undefined || AWS_ACCESS_KEY_ID === undefined || AWS_SECRET_ACCESS_KEY === undefined)
    throw new Error(
      'BACKUP_BUCKET_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set, for example BACKUP_BUCKET_URL=https://s3.example.com/bucket/folder',
    )
  return openBucket({
    url,
    accessKeyId: AWS_ACCESS_KEY_ID,
    secretAccessKey: AWS_SECRET_ACCESS_KEY,
    region: AWS_REGION,
    waitSeconds: config.CONNECT_WAIT_SECONDS,
  })
}
