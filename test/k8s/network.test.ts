import t from 'tap'
import { parse } from 'yaml'
import { find, type Manifest, podsOf, readManifests, render, variants } from '../helpers/kustomize.ts'
import { missing } from '../helpers/skipping.ts'

const skip = missing('kubectl')

// Every allowed connection: from, to and port. Everything else is denied.
const common = [
  'api ← kube-system/traefik 3000',
  'api ← monitoring/* 9464',
  'api → kube-system/kube-dns 53',
  'maintenance → kube-system/kube-dns 53',
  'migration → kube-system/kube-dns 53',
]
const k3s = [
  ...common,
  'api → database 5432',
  'backup → database 5432',
  'backup → kube-system/kube-dns 53',
  'bootstrap → database 5432',
  'bootstrap → kube-system/kube-dns 53',
  'database ← api 5432',
  'database ← backup 5432',
  'database ← bootstrap 5432',
  'database ← maintenance 5432',
  'database ← migration 5432',
  'database ← restore 5432',
  'database ← restore-drill 5432',
  'maintenance → database 5432',
  'migration → database 5432',
  'restore → database 5432',
  'restore → kube-system/kube-dns 53',
  'restore-drill → database 5432',
  'restore-drill → kube-system/kube-dns 53',
]
const pairs: Record<string, string[]> = {
  k3s,
  'k3s with object storage': [
    ...k3s,
    'backup-upload → anywhere 443',
    'backup-upload → database 5432',
    'backup-upload → kube-system/kube-dns 53',
    'database ← backup-upload 5432',
  ],
  ha: [
    ...common,
    'api → cnpg 5432',
    'cnpg ← api 5432',
    'cnpg ← cnpg 5432',
    'cnpg ← cnpg 8000',
    'cnpg ← cnpg-system/cloudnative-pg 8000',
    'cnpg ← maintenance 5432',
    'cnpg ← migration 5432',
    'cnpg ← monitoring/* 9187',
    'cnpg → anywhere 443',
    'cnpg → anywhere 6443',
    'cnpg → cnpg 5432',
    'cnpg → cnpg 8000',
    'cnpg → kube-system/kube-dns 53',
    'maintenance → cnpg 5432',
    'migration → cnpg 5432',
  ],
}

for (const overlay of variants) {
  t.test(`${overlay}: only the connections that are needed are allowed`, { skip }, async (t) => {
    const objects = render(overlay)
    const policies = objects.filter(({ kind }) => kind === 'NetworkPolicy')
    t.strictSame(find(policies, 'NetworkPolicy', 'default-deny').spec, {
      podSelector: {},
      policyTypes: ['Ingress', 'Egress'],
    })

    const pods = podsOf(objects).map(({ labels }) => labels)
    const allowed = policies.flatMap(({ spec }) => {
      for (const direction of ['ingress', 'egress']) {
        if (spec[direction]) t.ok(spec.policyTypes.some((type: string) => type.toLowerCase() === direction))
      }
      return [
        ...(spec.ingress ?? []).flatMap((rule: Manifest) => pairsOf(spec, '←', rule.from, rule.ports)),
        ...(spec.egress ?? []).flatMap((rule: Manifest) => pairsOf(spec, '→', rule.to, rule.ports)),
      ]
    })
    t.strictSame([...new Set(allowed)].sort(), pairs[overlay]?.sort())

    function pairsOf(spec: Manifest, arrow: string, peers: Manifest[] | undefined, ports: Manifest[]): string[] {
      const others = peers?.flatMap(nameOf) ?? ['anywhere']
      return components(spec.podSelector).flatMap((own) =>
        others.flatMap((other) => ports.map(({ port }) => `${own} ${arrow} ${other} ${port}`)),
      )
    }

    function nameOf({ namespaceSelector, podSelector, ipBlock }: Manifest): string[] {
      if (ipBlock) return [ipBlock.cidr]
      if (!namespaceSelector) return components(podSelector)
      const namespace = namespaceSelector.matchLabels['kubernetes.io/metadata.name']
      return [`${namespace}/${Object.values(podSelector?.matchLabels ?? { any: '*' }).join()}`]
    }

    function components({ matchLabels = {}, matchExpressions = [] }: Manifest): string[] {
      if (matchLabels['cnpg.io/cluster']) return ['cnpg']
      const chosen = pods.filter(
        (labels) =>
          Object.entries(matchLabels).every(([name, value]) => labels[name] === value) &&
          matchExpressions.every(({ key, values }: Manifest) => values.includes(labels[key])),
      )
      return chosen.map((labels) => labels['app.kubernetes.io/component'] as string)
    }
  })

  t.test(`${overlay}: no Service or pod has an address outside of the cluster`, { skip }, async (t) => {
    const objects = render(overlay)
    for (const { metadata, spec } of objects.filter(({ kind }) => kind === 'Service')) {
      t.equal(spec.type ?? 'ClusterIP', 'ClusterIP', metadata.name)
      t.notOk(spec.externalIPs ?? spec.ports.some((port: Manifest) => port.nodePort), metadata.name)
      if (/postgres/.test(metadata.name)) t.equal(spec.clusterIP, 'None')
    }
    for (const { of, spec, containers } of podsOf(objects)) {
      t.notOk(spec.hostNetwork, of)
      for (const { ports = [] } of containers)
        t.notOk(
          ports.some((port: Manifest) => port.hostPort),
          of,
        )
    }
    t.notOk(find(objects, 'Cluster', 'sluice-postgres')?.spec.managed?.services, 'no Services besides -rw, -ro and -r')
  })

  t.test(`${overlay}: the Ingress exposes only /v1, /docs and /openapi.json`, { skip }, async (t) => {
    const { spec } = find(render(overlay), 'Ingress', 'sluice-api')
    t.notOk(spec.defaultBackend)
    const paths = spec.rules.flatMap(({ http }: Manifest) => http.paths.map((p: Manifest) => `${p.pathType} ${p.path}`))
    t.strictSame(paths, ['Prefix /v1', 'Prefix /docs', 'Exact /openapi.json'])
  })
}

t.test('a separate manifest turns off the read timeout of Traefik, which cuts off long requests', async (t) => {
  const [{ kind, metadata, spec }, ...others] = readManifests('k8s/components/ingress/traefik-timeouts.yaml')
  t.strictSame(others, [])
  t.match({ kind, metadata }, { kind: 'HelmChartConfig', metadata: { name: 'traefik', namespace: 'kube-system' } })
  const argument = (entryPoint: string) => `--entryPoints.${entryPoint}.transport.respondingTimeouts.readTimeout=0`
  t.strictSame(parse(spec.valuesContent), { additionalArguments: [argument('web'), argument('websecure')] })
  const read = readManifests('k8s/components/ingress/kustomization.yaml')[0].resources
  t.notOk(
    read.includes('traefik-timeouts.yaml'),
    'it is not in the component, because kustomize would change its namespace',
  )
})
