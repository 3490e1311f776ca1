import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'

export const repository = new URL('../../', import.meta.url)

// biome-ignore lint/suspicious/noExplicitAny: what kubectl rendered; the tests check its shape
export type Manifest = any

export const overlays = ['k3s', 'ha'] as const

/** The overlays, and one with a component that no overlay has. */
export const variants = [...overlays, 'k3s with object storage'] as const

/** Returns what `kubectl apply -k` would apply. */
export function render(variant: string): Manifest[] {
  const build = (folder: string) => parseManifests(execFileSync('kubectl', ['kustomize', folder], { encoding: 'utf8' }))
  const k8s = fileURLToPath(new URL('k8s', repository))
  if (variant !== 'k3s with object storage') return build(join(k8s, 'overlays', variant))

  // In a copy, to which the line from k8s/components/backup/README.md is added.
  const copy = mkdtempSync(join(tmpdir(), 'sluice-'))
  try {
    cpSync(k8s, copy, { recursive: true })
    const file = join(copy, 'overlays/k3s/kustomization.yaml')
    const line = '  - ../../components/backup\n'
    const text = readFileSync(file, 'utf8')
    if (!text.includes(line)) throw new Error(`no ${line} in ${file}`)
    writeFileSync(file, text.replace(line, `${line}  - ../../components/backup-object-storage\n`))
    return build(join(copy, 'overlays/k3s'))
  } finally {
    rmSync(copy, { recursive: true })
  }
}

/** Reads the documents of a YAML file in the repository. */
export const readManifests = (path: string): Manifest[] =>
  parseManifests(readFileSync(new URL(path, repository), 'utf8'))

interface Pod {
  /** For example `Deployment sluice-api`. */
  of: string
  kind: string
  labels: Record<string, string>
  spec: Manifest
  /** Init containers included. */
  containers: Manifest[]
}

/** The pods that the objects would create. */
export function podsOf(objects: Manifest[]): Pod[] {
  return objects
    .map((object) => ({ ...object, template: (object.spec?.jobTemplate?.spec ?? object.spec)?.template }))
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
