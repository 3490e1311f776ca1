import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'

export const repository = new URL('../../', import.meta.url)

// biome-ignore lint/suspicious/noExplicitAny: what kubectl rendered; its shape is what the tests are about
export type Manifest = any

export const overlays = ['k3s', 'ha'] as const
export type Overlay = (typeof overlays)[number]

/** For `skip` of a test: false, or why it cannot run here. */
export const missing = (program: string): string | false => {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`])
    return false
  } catch {
    return `${program} is not on the PATH`
  }
}

/** What `kubectl apply -k` would apply. */
export function render(overlay: string): Manifest[] {
  const folder = fileURLToPath(new URL(`k8s/overlays/${overlay}`, repository))
  return parseManifests(execFileSync('kubectl', ['kustomize', folder], { encoding: 'utf8' }))
}

/** The documents of a YAML file in the repository. */
export const readManifests = (path: string): Manifest[] =>
  parseManifests(readFileSync(new URL(path, repository), 'utf8'))

export interface Pod {
  /** As `Deployment sluice-api`. */
  of: string
  kind: string
  labels: Record<string, string>
  spec: Manifest
  /** The init containers too. */
  containers: Manifest[]
}

/** The pods that the objects would make. */
export function podsOf(objects: Manifest[]): Pod[] {
  return objects
    .map(({ kind, metadata, spec }) => ({ kind, metadata, template: (spec?.jobTemplate?.spec ?? spec)?.template }))
    .filter(({ template }) => template?.spec?.containers)
    .map(({ kind, metadata, template }) => ({
      of: `${kind} ${metadata.name.replace(/-[a-z0-9]{10}$/, '')}`,
      kind,
      labels: template.metadata.labels,
      spec: template.spec,
      containers: [...(template.spec.initContainers ?? []), ...template.spec.containers],
    }))
}

export const find = (objects: Manifest[], kind: string, name: string): Manifest =>
  objects.find((object) => object.kind === kind && object.metadata.name === name)

export function parseManifests(text: string): Manifest[] {
  return parseAllDocuments(text).map((document) => document.toJS())
}
