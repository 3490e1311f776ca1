import { execFileSync } from 'node:child_process'
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { parseAllDocuments } from 'yaml'
import { type Manifest, repository } from './kustomize.ts'

/** The objects of an overlay with a component added. */
export const renderWith = (t: Test, overlay: string, component: string): Manifest[] =>
  renderTogether(t, `overlays/${overlay}`, [component])

/** The objects of a folder of k8s with components, in this order. @throws Error with the message of kubectl */
export function renderTogether(t: Test, resource: string, components: string[]): Manifest[] {
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'sluice-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const k8s = relative(folder, fileURLToPath(new URL('k8s', repository)))
  const lines = [
    'kind: Kustomization',
    'namespace: sluice',
    `resources: [${k8s}/${resource}]`,
    `components: [${components.map((name) => `${k8s}/components/${name}`).join(', ')}]`,
  ]
  writeFileSync(join(folder, 'kustomization.yaml'), lines.join('\n'))
  const text = execFileSync('kubectl', ['kustomize', folder], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  return parseAllDocuments(text).map((document) => document.toJS())
}
