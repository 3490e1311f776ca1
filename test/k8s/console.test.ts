import t from 'tap'
import { find, overlays } from '../helpers/kustomize.ts'
import { renderTogether, renderWith } from '../helpers/overlay-with.ts'
import { missing } from '../helpers/skipping.ts'

for (const overlay of overlays) {
  t.test(
    `${overlay}: only with its component, the Ingress serves the console`,
    { skip: missing('kubectl') },
    async (t) => {
      const before = renderTogether(t, `overlays/${overlay}`, [])
      const after = renderWith(t, overlay, 'console')
      const pathsOf = (objects: typeof before) => find(objects, 'Ingress', 'sluice-api').spec.rules[0].http.paths
      const [first] = pathsOf(before)
      t.notOk(pathsOf(before).some(({ path }: { path: string }) => path === '/' || path.startsWith('/console')))
      t.same(pathsOf(after), [...pathsOf(before), { ...first, path: '/console' }])
      const others = (objects: typeof before) => objects.filter(({ kind }) => kind !== 'Ingress')
      t.same(others(after), others(before))
    },
  )
}

t.test('listed before the component ingress, it fails instead of doing nothing', { skip: missing('kubectl') }, (t) => {
  t.throws(() => renderTogether(t, 'base', ['console', 'ingress']), /sluice-api/)
  const paths = find(renderTogether(t, 'base', ['ingress', 'console']), 'Ingress', 'sluice-api').spec.rules[0].http
    .paths
  t.equal(paths.at(-1).path, '/console')
  t.end()
})
