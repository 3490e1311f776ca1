import { execFileSync } from 'node:child_process'
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { parseAllDocuments } from 'yaml'
import { ConfigSchema } from '../../src/config.ts'
import { find, type Manifest, overlays, podsOf, render, repository } from '../helpers/kustomize.ts'
import { missing } from '../helpers/skipping.ts'

for (const overlay of overlays) {
  t.test(
    `${overlay}: the component tracing adds settings that exist, and one egress rule`,
    { skip: missing('kubectl') },
    async (t) => {
      const before = render(overlay)
      const after = renderTraced(t, overlay)
      const configOf = (objects: Manifest[]) => {
        const [api] = find(objects, 'Deployment', 'sluice-api').spec.template.spec.containers
        return find(objects, 'ConfigMap', api.envFrom[0].configMapRef.name).data
      }
      const added = Object.entries(configOf(after)).filter(([name]) => !(name in configOf(before)))
      t.strictSame(added, [
        ['OTEL_EXPORTER_OTLP_ENDPOINT', 'http://opentelemetry-collector.monitoring:4318'],
        ['OTEL_TRACES_SAMPLER', 'parentbased_traceidratio'],
        ['OTEL_TRACES_SAMPLER_ARG', '0.01'],
      ])
      for (const [name] of added) t.ok(name in ConfigSchema.properties, name)
      t.match(configOf(after), configOf(before), 'it removes no setting')

      t.equal(after.length, before.length + 1)
      const { spec, metadata } = find(after, 'NetworkPolicy', 'tracing')
      t.equal(metadata.namespace, 'sluice')
      t.strictSame(spec.policyTypes, ['Egress'])
      const pods = podsOf(after).filter(({ labels }) =>
        Object.entries(spec.podSelector.matchLabels).every(([name, value]) => labels[name] === value),
      )
      t.strictSame(
        pods.map(({ of }) => of),
        ['Deployment sluice-api'],
      )
      t.strictSame(spec.egress, [
        {
          to: [
            {
              namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } },
              podSelector: { matchLabels: { 'app.kubernetes.io/name': 'opentelemetry-collector' } },
            },
          ],
          ports: [{ protocol: 'TCP', port: 4318 }],
        },
      ])
    },
  )
}

/** The overlay with the component added. */
function renderTraced(t: Test, overlay: string): Manifest[] {
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'sluice-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const k8s = relative(folder, fileURLToPath(new URL('k8s', repository)))
  const lines = [
    'kind: Kustomization',
    'namespace: sluice',
    `resources: [${k8s}/overlays/${overlay}]`,
    `components: [${k8s}/components/tracing]`,
  ]
  writeFileSync(join(folder, 'kustomization.yaml'), lines.join('\n'))
  const text = execFileSync('kubectl', ['kustomize', folder], { encoding: 'utf8' })
  return parseAllDocuments(text).map((document) => document.toJS())
}
