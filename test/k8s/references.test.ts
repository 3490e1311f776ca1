import t from 'tap'
import { find, type Manifest, podsOf, readManifests, render, variants } from '../helpers/kustomize.ts'
import { missing } from '../helpers/skipping.ts'

const skip = missing('kubectl')

for (const overlay of variants) {
  t.test(`${overlay}: everything that an object refers to exists`, { skip }, async (t) => {
    const objects = render(overlay)
    const pods = podsOf(objects)
    const keys = secretKeys(overlay)

    t.test('ConfigMaps and keys of Secrets', async (t) => {
      for (const { of, spec, containers } of pods) {
        for (const { env = [], envFrom = [] } of containers) {
          for (const { configMapRef } of envFrom) t.ok(find(objects, 'ConfigMap', configMapRef.name), of)
          for (const { valueFrom } of env) {
            if (valueFrom?.secretKeyRef)
              t.ok(keys.has(`${valueFrom.secretKeyRef.name}/${valueFrom.secretKeyRef.key}`), of)
            if (valueFrom?.configMapKeyRef) t.ok(find(objects, 'ConfigMap', valueFrom.configMapKeyRef.name), of)
          }
        }
        for (const { configMap } of spec.volumes ?? []) {
          if (configMap) t.ok(find(objects, 'ConfigMap', configMap.name), of)
        }
      }
    })

    t.test('ServiceAccounts, each used by one kind of pod', async (t) => {
      const used = pods.map(({ spec }) => spec.serviceAccountName).sort()
      const made = objects.filter(({ kind }) => kind === 'ServiceAccount').map(({ metadata }) => metadata.name)
      t.strictSame(used, made.sort())
    })

    t.test('the volumes of mounts', async (t) => {
      for (const { kind, of, spec, containers } of pods) {
        const set = kind === 'StatefulSet' ? find(objects, kind, of.split(' ')[1] as string).spec : {}
        const claims = (set.volumeClaimTemplates ?? []).map(({ metadata }: Manifest) => metadata)
        const names = [...(spec.volumes ?? []), ...claims].map(({ name }: Manifest) => name)
        for (const { volumeMounts = [] } of containers) {
          for (const { name } of volumeMounts) t.ok(names.includes(name), `${of}: ${name}`)
        }
      }
    })

    t.test('the pods of selectors', async (t) => {
      const selectors = objects.flatMap(({ kind, metadata, spec }) => {
        const selector = kind === 'Service' ? { matchLabels: spec.selector } : (spec?.podSelector ?? spec?.selector)
        return selector && kind !== 'PodMonitor' ? [{ of: `${kind} ${metadata.name}`, selector }] : []
      })
      t.ok(selectors.length > 5)
      for (const { of, selector } of selectors)
        t.ok(pods.some(({ labels }) => selects(selector, labels)) || isOfCluster(selector), of)
      for (const { kind, metadata, spec } of objects) {
        if (kind === 'Deployment' || kind === 'StatefulSet')
          t.ok(selects(spec.selector, spec.template.metadata.labels), metadata.name)
      }
    })

    t.test('the ports of Services, probes and the Ingress', async (t) => {
      const services = objects.filter(({ kind }) => kind === 'Service')
      for (const { metadata, spec } of services) {
        const behind = pods.filter(({ labels }) => selects({ matchLabels: spec.selector }, labels))
        const names = behind.flatMap(({ containers }) =>
          containers.flatMap(({ ports = [] }) => ports.map((p: Manifest) => p.name)),
        )
        for (const { targetPort } of spec.ports) t.ok(names.includes(targetPort), metadata.name)
      }
      for (const { containers } of pods) {
        for (const { ports = [], startupProbe, livenessProbe, readinessProbe } of containers) {
          for (const probe of [startupProbe, livenessProbe, readinessProbe]) {
            if (probe?.httpGet) t.ok(ports.some(({ name }: Manifest) => name === probe.httpGet.port))
          }
        }
      }
      for (const { backend } of find(objects, 'Ingress', 'sluice-api').spec.rules[0].http.paths) {
        const { ports } = find(objects, 'Service', backend.service.name).spec
        t.ok(ports.some(({ name }: Manifest) => name === backend.service.port.name))
      }
    })

    t.test('the host of every DATABASE_URL', async (t) => {
      const cluster = find(objects, 'Cluster', 'sluice-postgres')
      for (const { containers } of pods) {
        for (const { env = [] } of containers) {
          const url = env.find(({ name }: Manifest) => name === 'DATABASE_URL')?.value
          if (!url) continue
          const { hostname, port } = new URL(url.replaceAll(/\$\(\w+\)/g, 'x'))
          t.equal(port, '5432')
          if (cluster) t.equal(hostname, `${cluster.metadata.name}-rw`)
          else t.ok(find(objects, 'Service', hostname))
        }
      }
    })
  })
}

t.test('ha: everything that the Cluster refers to exists', { skip }, async (t) => {
  const objects = render('ha')
  const keys = secretKeys('ha')
  const { spec } = find(objects, 'Cluster', 'sluice-postgres')
  t.match(spec, { instances: 3, postgresql: { synchronous: { method: 'any', number: 1, dataDurability: 'required' } } })
  const secrets = [spec.bootstrap.initdb.secret, ...spec.managed.roles.map((role: Manifest) => role.passwordSecret)]
  for (const { name } of secrets) {
    t.ok(keys.has(`${name}/username`) && keys.has(`${name}/password`), name)
    const { type, metadata } = readManifests('k8s/overlays/ha/secrets.sops.yaml').find(
      (one) => one.metadata.name === name,
    )
    t.equal(type, 'kubernetes.io/basic-auth')
    t.equal(metadata.labels['cnpg.io/reload'], 'true', 'the operator applies a rotated password')
  }
  const [plugin] = spec.plugins
  const store = find(objects, 'ObjectStore', plugin.parameters.barmanObjectName)
  for (const { name, key } of Object.values<Manifest>(store.spec.configuration.s3Credentials))
    t.ok(keys.has(`${name}/${key}`))
  const backup = find(objects, 'ScheduledBackup', 'sluice-postgres').spec
  t.match(backup, {
    method: 'plugin',
    pluginConfiguration: { name: plugin.name },
    cluster: { name: 'sluice-postgres' },
  })
  t.equal(backup.schedule.split(' ').length, 6, 'with seconds')
  t.strictSame(find(objects, 'PodMonitor', 'sluice-postgres').spec.selector.matchLabels, {
    'cnpg.io/cluster': 'sluice-postgres',
  })
})

// With `wait: true`, it would wait for the claim of the backups, which is Pending until the first night.
t.test('Flux waits for objects that exist, and only for those that become ready', { skip }, async (t) => {
  const { spec } = find(readManifests('k8s/gitops/flux/sync.yaml'), 'Kustomization', 'sluice')
  t.notOk(spec.wait)
  const objects = render('k3s')
  for (const { kind, name, namespace } of spec.healthChecks)
    t.equal(find(objects, kind, name)?.metadata.namespace, namespace, `${kind} ${name}`)
  t.strictSame(
    spec.healthChecks.map(({ kind }: Manifest) => kind),
    ['StatefulSet', 'Deployment'],
  )
})

/** `name/key` of all values in the Secrets of a variant. The Secret of the bucket has the same form as in ha. */
function secretKeys(variant: string): Set<string> {
  const of = (overlay: string) => readManifests(`k8s/overlays/${overlay}/secrets.sops.yaml`)
  const bucket = of('ha').filter(({ metadata }) => metadata.name === 'sluice-object-storage')
  const secrets = variant === 'k3s with object storage' ? [...of('k3s'), ...bucket] : of(variant)
  return new Set(
    secrets.flatMap(({ metadata, data, stringData }) =>
      Object.keys({ ...data, ...stringData }).map((key) => `${metadata.name}/${key}`),
    ),
  )
}

function selects(selector: Manifest, labels: Record<string, string>): boolean {
  return (
    Object.entries(selector.matchLabels ?? {}).every(([name, value]) => labels[name] === value) &&
    (selector.matchExpressions ?? []).every(({ key, values }: Manifest) => values.includes(labels[key]))
  )
}

// Pods that the operator creates.
const isOfCluster = ({ matchLabels }: Manifest) => matchLabels?.['cnpg.io/cluster'] === 'sluice-postgres'
