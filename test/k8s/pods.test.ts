import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { ConfigSchema } from '../../src/config.ts'
import { parsePolicies } from '../../src/retention/policies.ts'
import {
  find,
  type Manifest,
  overlays,
  parseManifests,
  podsOf,
  render,
  repository,
  variants,
} from '../helpers/kustomize.ts'
import { missing } from '../helpers/skipping.ts'

const skip = missing('kubectl')
const read = (path: string) => readFileSync(new URL(path, repository), 'utf8')

for (const overlay of variants) {
  const objects = skip ? [] : render(overlay)
  const pods = podsOf(objects)

  t.test(`${overlay}: the namespace enforces the restricted profile, and every pod meets it`, { skip }, async (t) => {
    const namespaces = objects.filter(({ kind }) => kind === 'Namespace')
    t.equal(namespaces.length, 1)
    t.equal(namespaces[0].metadata.labels['pod-security.kubernetes.io/enforce'], 'restricted')
    for (const { of, spec, containers } of pods) {
      t.strictSame(violations(spec, containers), [], of)
    }
  })

  t.test(
    `${overlay}: containers can write only to their volumes, and get no service account token`,
    { skip },
    async (t) => {
      for (const { of, spec, containers } of pods) {
        t.equal(spec.automountServiceAccountToken, false, of)
        t.not(spec.serviceAccountName ?? 'default', 'default', of)
        for (const { name, securityContext } of containers) t.equal(securityContext.readOnlyRootFilesystem, true, name)
      }
    },
  )

  t.test(
    `${overlay}: every image has its digest, except for Sluice's own, which adopters build`,
    { skip },
    async (t) => {
      const images = [
        ...pods.flatMap(({ containers }) => containers),
        find(objects, 'Cluster', 'sluice-postgres')?.spec,
      ]
        .filter(Boolean)
        .map(({ image, imageName, imagePullPolicy }) => [image ?? imageName, imagePullPolicy])
      for (const [image, policy] of images) {
        t.match(image, /^postgres:18\.6@sha256:5a5a84b19854[0-9a-f]{52}$|^docker\.io\/library\/sluice:\d/)
        t.equal(policy, 'IfNotPresent', image)
      }
    },
  )

  t.test(`${overlay}: every container has requests and limits for CPU and memory`, { skip }, async (t) => {
    const resources = pods.flatMap(({ containers }) => containers.map(({ resources }) => resources))
    const others = [
      find(objects, 'Cluster', 'sluice-postgres')?.spec.resources,
      find(objects, 'ObjectStore', 'sluice-backups')?.spec.instanceSidecarConfiguration.resources,
    ]
    for (const each of [...resources, ...others.filter(Boolean)]) {
      for (const part of ['requests', 'limits']) t.strictSame(Object.keys(each[part]).sort(), ['cpu', 'memory'])
    }
  })

  t.test(`${overlay}: every object has the recommended labels, and every pod its version`, { skip }, async (t) => {
    const version = JSON.parse(read('package.json')).version
    for (const { kind, metadata } of objects) {
      if (kind === 'ConfigMap') continue
      for (const label of ['name', 'instance', 'component', 'part-of', 'managed-by']) {
        t.ok(metadata.labels[`app.kubernetes.io/${label}`], `${kind} ${metadata.name}: ${label}`)
      }
    }
    for (const { of, labels } of pods) {
      const ours = labels['app.kubernetes.io/name'] === 'sluice'
      t.equal(labels['app.kubernetes.io/version'], ours ? version : '18.6', of)
    }
  })

  t.test(`${overlay}: the API stays available during an update, and drains before it ends`, { skip }, async (t) => {
    const { spec } = find(objects, 'Deployment', 'sluice-api')
    t.ok(spec.replicas >= 2)
    t.match(spec.strategy, { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } })
    const pod = spec.template.spec
    const keys = pod.topologySpreadConstraints.map(({ topologyKey }: Manifest) => topologyKey)
    t.strictSame(keys, ['kubernetes.io/hostname', 'topology.kubernetes.io/zone'])
    t.equal(find(objects, 'PodDisruptionBudget', 'sluice-api').spec.maxUnavailable, 1)

    const { data } = objects.find(({ kind, metadata }) => kind === 'ConfigMap' && /^sluice-api-/.test(metadata.name))
    const [api] = pod.containers
    const drain = Number(data.DRAIN_SECONDS)
    const { periodSeconds, failureThreshold } = api.readinessProbe
    t.ok(drain >= periodSeconds * (failureThreshold + 1), 'every proxy knows before the server stops listening')
    const inFlight = Math.max(Number(data.OUTAGE_HOLD_SECONDS), Number(data.READ_TIMEOUT_SECONDS))
    const close = Number(data.CLOSE_SECONDS)
    t.ok(close >= inFlight, 'a request is not cut off before its own timeout')
    t.ok(pod.terminationGracePeriodSeconds >= drain + close + 10, 'requests in flight are answered')
  })

  t.test(`${overlay}: every setting of a Sluice container exists`, { skip }, async (t) => {
    const known = Object.keys(ConfigSchema.properties)
    const passwords = ['OWNER', 'API', 'MAINTENANCE', 'BACKUP', 'READER'].map((role) => `SLUICE_${role}_PASSWORD`)
    const libpq = ['PGPASSWORD', 'PGCONNECT_TIMEOUT']
    const parts = ['POSTGRES_USER', 'POSTGRES_DB']
    for (const { of, containers } of pods) {
      for (const { image, env = [] } of containers) {
        if (!/sluice/.test(image)) continue
        for (const { name } of env) t.ok([...known, ...passwords, ...libpq, ...parts].includes(name), `${of}: ${name}`)
      }
    }
    const { data } = objects.find(({ kind, metadata }) => kind === 'ConfigMap' && /^sluice-api-/.test(metadata.name))
    t.strictSame(
      Object.keys(data).filter((name) => !known.includes(name)),
      [],
    )
  })

  t.test(`${overlay}: the probes of the API use routes that exist`, { skip }, async (t) => {
    const routes = [...read('src/routes/health.ts').matchAll(/'(\/\w+)'/g)].map(([, path]) => path)
    const [api] = find(objects, 'Deployment', 'sluice-api').spec.template.spec.containers
    const paths = ['startupProbe', 'livenessProbe', 'readinessProbe'].map((probe) => api[probe].httpGet.path)
    t.strictSame(paths, ['/healthz', '/healthz', '/readyz'])
    for (const path of paths) t.ok(routes.includes(path), path)
  })

  t.test(`${overlay}: the pods of the API have only the password of sluice_api`, { skip }, async (t) => {
    const api = pods.find(({ of }) => of === 'Deployment sluice-api')
    const secrets = JSON.stringify(api?.spec).match(/"secret\w+":\{[^}]*\}/gi)
    t.strictSame(secrets, ['"secretKeyRef":{"key":"password","name":"sluice-api"}'])
    const withSuperuser = pods.filter(({ spec }) => JSON.stringify(spec).includes('"POSTGRES_PASSWORD"'))
    const expected = overlay.startsWith('k3s') ? ['Job sluice-bootstrap', 'StatefulSet sluice-postgres'] : []
    t.strictSame(withSuperuser.map(({ of }) => of).sort(), expected)
  })

  t.test(`${overlay}: a Job's name has a hash, so that a changed Job can be applied`, { skip }, async (t) => {
    const jobs = objects.filter(({ kind }) => kind === 'Job')
    t.ok(jobs.length > 0)
    for (const { metadata } of jobs) t.match(metadata.name, /^sluice-[a-z]+-[a-z0-9]{10}$/)
    for (const { spec } of jobs)
      t.equal(spec.template.spec.initContainers[0].name, 'wait', 'it waits for what it needs')
  })
}

for (const overlay of overlays) {
  t.test(
    `${overlay}: retention runs one at a time, ends in time, and deletes nothing by default`,
    { skip },
    async (t) => {
      const objects = render(overlay)
      const { spec } = find(objects, 'CronJob', 'sluice-maintenance')
      t.match(spec, { concurrencyPolicy: 'Forbid', timeZone: 'Etc/UTC', schedule: /^\d+ \d+ \* \* \*$/ })
      // With less than ten seconds, a job may never start:
      // https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#job-creation
      t.ok(spec.startingDeadlineSeconds >= 600)
      const job = spec.jobTemplate.spec
      t.ok(job.activeDeadlineSeconds < 20 * 3600, 'it ends before the next one')
      const pod = job.template.spec
      const [maintain] = pod.containers
      t.strictSame(maintain.args, ['maintain'])
      const secrets = JSON.stringify(pod).match(/"secret\w+":\{[^}]*\}/gi)
      t.strictSame(secrets, ['"secretKeyRef":{"key":"password","name":"sluice-maintenance"}'])

      const { valueFrom } = maintain.env.find(({ name }: Manifest) => name === 'ROLLUP_MAX_SERIES')
      const api = find(objects, 'Deployment', 'sluice-api').spec.template.spec.containers[0]
      t.equal(valueFrom.configMapKeyRef.name, api.envFrom[0].configMapRef.name, 'it counts like the API')

      const { value: path } = maintain.env.find(({ name }: Manifest) => name === 'RETENTION_POLICIES')
      const [mount] = maintain.volumeMounts
      const { configMap } = pod.volumes.find(({ name }: Manifest) => name === mount.name)
      const { data } = find(objects, 'ConfigMap', configMap.name)
      t.strictSame(parsePolicies(data[path.slice(mount.mountPath.length + 1)], path), [])
    },
  )
}

t.test('the overlay in the README replaces the empty policies', { skip }, async (t) => {
  const folder = t.testdir({ 'policies.json': '[{ "type": "click", "maxAge": "30d" }]' })
  const base = relative(folder, fileURLToPath(new URL('k8s/overlays/k3s', repository)))
  const readme = read('k8s/components/retention/README.md')
  const [, example] = /```yaml\n(resources:[^`]*policies\.json[^`]*)```/.exec(readme) ?? []
  writeFileSync(join(folder, 'kustomization.yaml'), `${example}`.replace('../k3s', base))
  const objects = parseManifests(execFileSync('kubectl', ['kustomize', folder], { encoding: 'utf8' }))
  const pod = find(objects, 'CronJob', 'sluice-maintenance').spec.jobTemplate.spec.template.spec
  const { data } = find(objects, 'ConfigMap', pod.volumes[0].configMap.name)
  t.match(parsePolicies(data['policies.json'], 'policies.json'), [{ selection: { type: 'click' } }])
})

t.test('k3s: PostgreSQL has one replica, a retained volume and SCRAM passwords', { skip }, async (t) => {
  const objects = render('k3s')
  const { spec } = find(objects, 'StatefulSet', 'sluice-postgres')
  t.equal(spec.replicas, 1)
  t.equal(spec.podManagementPolicy, 'Parallel', 'a broken pod does not block its successor')
  t.strictSame(spec.persistentVolumeClaimRetentionPolicy, { whenDeleted: 'Retain', whenScaled: 'Retain' })
  t.strictSame(spec.volumeClaimTemplates, [
    {
      metadata: { name: 'data' },
      spec: {
        accessModes: ['ReadWriteOnce'],
        resources: { requests: { storage: '1Gi' } },
        storageClassName: 'local-path',
      },
    },
  ])
  const pod = spec.template.spec
  const [postgres] = pod.containers
  t.match(pod.securityContext, { runAsUser: 999, runAsGroup: 999, fsGroup: 999 })
  t.match(mounts(postgres), { data: '/var/lib/postgresql/data', run: '/var/run/postgresql', tmp: '/tmp' })
  const env = Object.fromEntries(postgres.env.map((each: Manifest) => [each.name, each.value ?? each.valueFrom]))
  t.match(env.PGDATA, /^\/var\/lib\/postgresql\/data\/\w+$/)
  t.match(env.POSTGRES_INITDB_ARGS, /--auth=scram-sha-256/)
  t.equal(env.POSTGRES_HOST_AUTH_METHOD, 'scram-sha-256')
  for (const name of ['POSTGRES_USER', 'POSTGRES_PASSWORD', 'POSTGRES_DB']) {
    t.strictSame(env[name], { secretKeyRef: { name: 'sluice-postgres', key: name } })
  }
})

t.test('k3s: PostgreSQL stops with a fast shutdown, and its liveness probe accepts recovery', { skip }, async (t) => {
  const { spec } = find(render('k3s'), 'StatefulSet', 'sluice-postgres').spec.template
  const [postgres] = spec.containers
  t.strictSame(postgres.lifecycle.preStop.exec.command, ['pg_ctl', 'stop', '--mode=fast', '--no-wait'])
  t.ok(spec.terminationGracePeriodSeconds >= 60)
  t.equal(spec.shareProcessNamespace, true, 'it inherits no other processes: see postgres-start.test.ts')

  const { startupProbe, livenessProbe, readinessProbe } = postgres
  for (const probe of [startupProbe, readinessProbe]) t.equal(probe.exec.command[0], 'pg_isready')
  t.match(
    livenessProbe.exec.command.at(-1),
    /pg_isready .*\|\| \[ \$\? -eq 1 \]$/,
    'a server that rejects connections is alive',
  )
  t.ok(
    startupProbe.periodSeconds * startupProbe.failureThreshold >= 1800,
    'time for recovery and for the wait for a predecessor',
  )
})

t.test('k3s: the settings of PostgreSQL fit its limits', { skip }, async (t) => {
  const objects = render('k3s')
  const { data } = objects.find(({ kind, metadata }) => kind === 'ConfigMap' && /^sluice-postgres-/.test(metadata.name))
  const settings = Object.fromEntries(
    [...data['postgresql.conf'].matchAll(/^(\w+) = '?([^'\n]*)'?$/gm)].map(([, name, value]) => [name, value]),
  )
  const [postgres] = find(objects, 'StatefulSet', 'sluice-postgres').spec.template.spec.containers
  t.equal(postgres.resources.limits.memory, '1Gi')
  const megabytes = (name: string) => Number(/^(\d+)MB$/.exec(settings[name] ?? '')?.[1])
  const sorts = settings.max_connections * megabytes('work_mem')
  t.ok(megabytes('shared_buffers') + megabytes('maintenance_work_mem') + sorts <= 1024 * 0.6, 'memory')
  t.ok(megabytes('max_wal_size') + megabytes('temp_file_limit') <= 1024 / 2, 'disk')
  const { value } = postgres.env.find(({ name }: Manifest) => name === 'POSTGRES_INITDB_ARGS')
  t.ok(!('hugepages-2Mi' in postgres.resources.limits) && settings.huge_pages === 'off', 'huge pages are not available')
  t.match(value, / --set=huge_pages=off/, 'huge pages are off during initdb')
  t.notOk('fsync' in settings || 'synchronous_commit' in settings || 'full_page_writes' in settings, 'durability')
})

// https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, for what these pods use.
function violations(pod: Manifest, containers: Manifest[]): string[] {
  const found: string[] = []
  for (const key of ['hostNetwork', 'hostPID', 'hostIPC', 'hostUsers']) if (pod[key]) found.push(key)
  const kinds = [
    'configMap',
    'csi',
    'downwardAPI',
    'emptyDir',
    'ephemeral',
    'persistentVolumeClaim',
    'projected',
    'secret',
  ]
  for (const { name, ...volume } of pod.volumes ?? []) {
    if (!Object.keys(volume).every((kind) => kinds.includes(kind))) found.push(`volume ${name}`)
  }
  for (const { name, securityContext: own = {}, ports = [] } of containers) {
    const context = { ...pod.securityContext, ...own }
    const rules = {
      runAsNonRoot: context.runAsNonRoot === true,
      runAsUser: context.runAsUser > 0,
      seccompProfile: ['RuntimeDefault', 'Localhost'].includes(context.seccompProfile?.type),
      allowPrivilegeEscalation: own.allowPrivilegeEscalation === false,
      privileged: own.privileged !== true,
      capabilities: own.capabilities?.drop?.includes('ALL') && (own.capabilities.add ?? []).length === 0,
      hostPort: ports.every((port: Manifest) => port.hostPort === undefined),
      procMount: (own.procMount ?? 'Default') === 'Default',
    }
    for (const [rule, met] of Object.entries(rules)) if (!met) found.push(`${name}: ${rule}`)
  }
  return found
}

function mounts({ volumeMounts }: Manifest): Record<string, string> {
  return Object.fromEntries(volumeMounts.map(({ name, mountPath }: Manifest) => [name, mountPath]))
}
