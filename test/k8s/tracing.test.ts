import t from 'tap'
import { ConfigSchema } from '../../src/config.ts'
import { find, type Manifest, overlays, podsOf, render } from '../helpers/kustomize.ts'
import { renderWith } from '../helpers/overlay-with.ts'
import { missing } from '../helpers/skipping.ts'

for (const overlay of overlays) {
  t.test(
    `${overlay}: the component tracing adds settings that exist, and one egress rule`,
    { skip: missing('kubectl') },
    async (t) => {
      const before = render(overlay)
      const after = renderWith(t, overlay, 'tracing')
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
