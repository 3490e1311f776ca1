import { readFileSync } from 'node:fs'
import t from 'tap'
import { loadConfig } from '../../src/config.ts'
import { type Manifest, overlays, render, repository } from '../helpers/kustomize.ts'
import { missing } from '../helpers/skipping.ts'

const skip = missing('kubectl')
const MiB = 1024 ** 2
const UNITS: Record<string, number> = { MB: MiB, GB: 1024 * MiB, Mi: MiB, Gi: 1024 * MiB }

/** Parses a size of Kubernetes or PostgreSQL. */
function bytesOf(text: string): number {
  const [, number, unit] = /^(\d+)(MB|GB|Mi|Gi)$/.exec(text) ?? []
  return Number(number) * (UNITS[unit ?? ''] as number)
}

for (const overlay of overlays) {
  t.test(
    `${overlay}: the storage budget fits the volume, and half of the volume can be records`,
    { skip },
    async (t) => {
      const objects = render(overlay)
      const settings = objects.find(
        ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name.startsWith('sluice-api'),
      )
      const budget = loadConfig(settings.data).STORAGE_BUDGET as number
      const volume = bytesOf(volumeOf(objects))
      t.ok(volume - budget >= 100 * MiB, `${budget} of ${volume} bytes`)
      // The WAL counts towards the budget from the start: see src/data/storage.ts.
      const wal = bytesOf(walOf(objects))
      t.ok(budget * 0.9 - wal > volume / 2, `${budget * 0.9 - wal} bytes of records before ingestion ends`)
    },
  )
}

function volumeOf(objects: Manifest[]): string {
  const cluster = objects.find(({ kind }) => kind === 'Cluster')
  if (cluster !== undefined) return cluster.spec.storage.size
  return objects.find(({ kind }) => kind === 'StatefulSet').spec.volumeClaimTemplates[0].spec.resources.requests.storage
}

function walOf(objects: Manifest[]): string {
  const cluster = objects.find(({ kind }) => kind === 'Cluster')
  if (cluster !== undefined) return cluster.spec.postgresql.parameters.max_wal_size
  const conf = readFileSync(new URL('k8s/components/postgres/postgresql.conf', repository), 'utf8')
  return /^max_wal_size = '(\w+)'/m.exec(conf)?.[1] as string
}
