import t from 'tap'
import { find, type Manifest, podsOf, render } from '../helpers/kustomize.ts'
import { missing } from '../helpers/skipping.ts'

const skip = missing('kubectl')
const objects = skip ? [] : render('k3s with object storage')
const jobs = objects.filter(({ kind, metadata }) => kind === 'CronJob' && /backup|restore/.test(metadata.name))
const pods = podsOf(jobs)
const scripts = objects.find(
  ({ kind, metadata }) => kind === 'ConfigMap' && /^sluice-backup-/.test(metadata.name),
)?.data

t.test('no job runs twice at the same time, and every scheduled job has a deadline', { skip }, async (t) => {
  t.equal(jobs.length, 4)
  for (const { metadata, spec } of jobs) {
    t.equal(spec.concurrencyPolicy, 'Forbid', metadata.name)
    t.equal(spec.timeZone, 'Etc/UTC')
    if (!spec.suspend) t.ok(spec.jobTemplate.spec.activeDeadlineSeconds < 86_400, metadata.name)
  }
})

t.test(
  'each night runs the backup, the upload and the drill, and a late backup begins before the drill',
  { skip },
  async (t) => {
    const [backup, upload, drill] = ['sluice-backup', 'sluice-backup-upload', 'sluice-restore-drill'].map((name) => {
      const { schedule, startingDeadlineSeconds } = find(jobs, 'CronJob', name).spec
      const [minute, hour, ...days] = schedule.split(' ')
      t.strictSame(days, ['*', '*', '*'])
      return { at: hour * 3600 + minute * 60, until: hour * 3600 + minute * 60 + startingDeadlineSeconds }
    }) as [Night, Night, Night]
    t.ok(backup.at < upload.at && upload.at < drill.at)
    t.ok(backup.until <= drill.at)
  },
)

t.test('a restore is neither started nor retried automatically', { skip }, async (t) => {
  const { suspend, jobTemplate, ...limits } = find(jobs, 'CronJob', 'sluice-restore').spec
  t.equal(suspend, true)
  t.equal(jobTemplate.spec.backoffLimit, 0)
  // Otherwise three lists of the backups would replace the Job of the restore, with its log.
  t.ok(limits.successfulJobsHistoryLimit >= 100 && limits.failedJobsHistoryLimit >= 100, 'its Job stays for a week')
})

t.test('only the backup job can write to the backups, which have their own claim', { skip }, async (t) => {
  const writers = pods.filter(({ spec, containers }) => {
    const { persistentVolumeClaim } = spec.volumes.find(({ name }: Manifest) => name === 'backups')
    t.equal(persistentVolumeClaim.claimName, 'sluice-backups')
    return containers.some(({ volumeMounts = [] }) =>
      volumeMounts.some(({ name, readOnly }: Manifest) => name === 'backups' && readOnly !== true),
    )
  })
  t.strictSame(
    writers.map(({ of }) => of),
    ['CronJob sluice-backup'],
  )
  t.match(find(objects, 'PersistentVolumeClaim', 'sluice-backups'), {
    metadata: { annotations: { 'kustomize.toolkit.fluxcd.io/prune': 'disabled' } },
    spec: { storageClassName: 'local-path', accessModes: ['ReadWriteOnce'] },
  })
})

t.test('each job has only the passwords that it needs', { skip }, async (t) => {
  const passwords = pods.map(({ of, containers }) => [
    of,
    ...new Set(
      containers.flatMap(({ env }) => env.map((e: Manifest) => e.valueFrom?.secretKeyRef.name).filter(Boolean)),
    ),
  ])
  t.strictSame(passwords.sort(), [
    ['CronJob sluice-backup', 'sluice-backup'],
    ['CronJob sluice-backup-upload', 'sluice-object-storage', 'sluice-backup'],
    ['CronJob sluice-restore', 'sluice-owner', 'sluice-first-key'],
    ['CronJob sluice-restore-drill', 'sluice-backup'],
  ])
})

t.test('every file and variable that a script uses exists', { skip }, async (t) => {
  const variables = ['BACKUPS', 'DATABASE_URL', 'KEEP', 'KEEP_DAYS', 'SCRATCH']
  let found = 0
  for (const { of, containers } of pods) {
    for (const { command = [], env } of containers) {
      const [, name] = /^\/etc\/backup\/(.*)$/.exec(command.at(-1) ?? '') ?? []
      if (name === undefined) continue
      found++
      const text = read(name)
      const set = env.map((e: Manifest) => e.name)
      const used = variables.filter((variable) => new RegExp(`\\$\\{?${variable}\\b`).test(text))
      t.ok(used.length >= 2)
      for (const variable of used) t.ok(set.includes(variable), `${of}: ${variable}`)
    }
  }
  t.equal(found, 3)

  /** A script with all the files that it uses. */
  function read(name: string): string {
    t.ok(scripts[name], name)
    const others = [...scripts[name].matchAll(/\$here\/([\w.-]+)/g)].map(([, other]) => other as string)
    return [scripts[name], ...others.map(read)].join('\n')
  }
})

t.test('the server of the drill has a size limit, and does not listen on any address', { skip }, async (t) => {
  const drill = pods.find(({ of }) => of === 'CronJob sluice-restore-drill')
  const scratch = drill?.spec.volumes.find(({ name }: Manifest) => name === 'scratch')
  t.match(scratch, { emptyDir: { sizeLimit: /Gi$/ } })
  t.match(scripts['drill.sh'], /-c listen_addresses= /)
})

interface Night {
  /** Seconds after midnight. */
  at: number
  until: number
}
