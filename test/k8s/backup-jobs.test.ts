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

t.test('none runs twice at once, and none for ever', { skip }, async (t) => {
  t.equal(jobs.length, 4)
  for (const { metadata, spec } of jobs) {
    t.equal(spec.concurrencyPolicy, 'Forbid', metadata.name)
    t.equal(spec.timeZone, 'Etc/UTC')
    if (!spec.suspend) t.ok(spec.jobTemplate.spec.activeDeadlineSeconds < 86_400, metadata.name)
  }
})

t.test(
  'the night goes from backup to upload to drill, and one that is late does not pass the next',
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

t.test('a restore never begins by itself, and is not tried again by itself', { skip }, async (t) => {
  const { suspend, jobTemplate } = find(jobs, 'CronJob', 'sluice-restore').spec
  t.equal(suspend, true)
  t.equal(jobTemplate.spec.backoffLimit, 0)
})

t.test('only the backup can write to the backups, which are on a claim of their own', { skip }, async (t) => {
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

t.test('each holds the password that it needs, and no other', { skip }, async (t) => {
  const held = pods.map(({ of, containers }) => [
    of,
    ...new Set(
      containers.flatMap(({ env }) => env.map((e: Manifest) => e.valueFrom?.secretKeyRef.name).filter(Boolean)),
    ),
  ])
  t.strictSame(held.sort(), [
    ['CronJob sluice-backup', 'sluice-backup'],
    ['CronJob sluice-backup-upload', 'sluice-object-storage', 'sluice-backup'],
    ['CronJob sluice-restore', 'sluice-owner', 'sluice-first-key'],
    ['CronJob sluice-restore-drill', 'sluice-backup'],
  ])
})

t.test('what a script runs, reads and is told is there', { skip }, async (t) => {
  const variables = ['BACKUPS', 'DATABASE_URL', 'KEEP', 'KEEP_DAYS', 'SCRATCH']
  let seen = 0
  for (const { of, containers } of pods) {
    for (const { command = [], env } of containers) {
      const [, name] = /^\/etc\/backup\/(.*)$/.exec(command.at(-1) ?? '') ?? []
      if (name === undefined) continue
      seen++
      const text = read(name)
      const set = env.map((e: Manifest) => e.name)
      const used = variables.filter((variable) => new RegExp(`\\$\\{?${variable}\\b`).test(text))
      t.ok(used.length >= 2)
      for (const variable of used) t.ok(set.includes(variable), `${of}: ${variable}`)
    }
  }
  t.equal(seen, 3)

  /** A script with all that it takes in. */
  function read(name: string): string {
    t.ok(scripts[name], name)
    const others = [...scripts[name].matchAll(/\$here\/([\w.-]+)/g)].map(([, other]) => other as string)
    return [scripts[name], ...others.map(read)].join('\n')
  }
})

t.test('the drill has bounds for its server, and no address for anyone else', { skip }, async (t) => {
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
