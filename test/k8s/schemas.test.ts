import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { type Manifest, readManifests, render, repository, variants } from '../helpers/kustomize.ts'
import { missing } from '../helpers/skipping.ts'

// The npm packages with the schemas of the API: types that have every field, and validators for what types cannot express
// (patterns, quantities). The API server refuses unknown fields as well, because kubectl validates strictly.
const packages: Record<string, string> = {
  'postgresql.cnpg.io': '@kubernetes-models/cloudnative-pg/',
  'monitoring.coreos.com': '@kubernetes-models/prometheus-operator/',
  'kustomize.toolkit.fluxcd.io': '@kubernetes-models/flux-cd/',
  'source.toolkit.fluxcd.io': '@kubernetes-models/flux-cd/',
  'argoproj.io': '@kubernetes-models/argo-cd/',
}

// No package has this type yet. The operator calls its configuration BarmanObjectStoreConfiguration. The other fields:
// https://cloudnative-pg.io/plugin-barman-cloud/docs/plugin-barman-cloud.v1
const OBJECT_STORE = `{
  apiVersion: 'barmancloud.cnpg.io/v1'
  kind: 'ObjectStore'
  metadata: import('@kubernetes-models/apimachinery/apis/meta/v1/ObjectMeta').IObjectMeta
  spec: {
    configuration: import('@kubernetes-models/cloudnative-pg/github.com/cloudnative-pg/barman-cloud/pkg/api/BarmanObjectStoreConfiguration').IBarmanObjectStoreConfiguration
    retentionPolicy?: string
    instanceSidecarConfiguration?: {
      env?: import('kubernetes-models/v1/EnvVar').IEnvVar[]
      resources?: import('kubernetes-models/v1/ResourceRequirements').IResourceRequirements
      retentionPolicyIntervalSeconds?: number
    }
  }
}`

const skip = missing('kubectl')

for (const overlay of variants) {
  t.test(`every object of ${overlay} has only fields and values that the API accepts`, { skip }, (t) =>
    check(t, render(overlay)),
  )
}

t.test('the examples for Flux and Argo CD have only fields and values that the API accepts', (t) =>
  check(
    t,
    ['flux/sync.yaml', 'argo-cd/application.yaml'].flatMap((name) => readManifests(`k8s/gitops/${name}`)),
  ),
)

t.test('an unknown field and an invalid value are found', async (t) => {
  const find = async (spec: Manifest, kind = 'Service') =>
    (await complaints(t, [{ apiVersion: 'v1', kind, metadata: { name: 'a' }, spec }])).join('\n')
  t.match(await find({ clusterIp: 'None' }), /clusterIp.*does not exist/)
  t.match(await find({ type: 'Outside' }), /spec\/type must be equal to one of the allowed values/)
  t.match(await find({ hard: { pods: 'many' } }, 'ResourceQuota'), /hard.*must match/)
})

async function check(t: Test, objects: Manifest[]): Promise<void> {
  t.ok(objects.length > 0)
  t.strictSame(await complaints(t, objects), [])
}

async function complaints(t: Test, objects: Manifest[]): Promise<string[]> {
  const invalid = await Promise.all(objects.map(validate))
  return [...invalid.flat(), ...typeErrors(t.testdir({}), objects)]
}

async function validate(object: Manifest): Promise<string[]> {
  if (object.kind === 'ObjectStore') return []
  const model = (await import(moduleOf(object)))[object.kind]
  try {
    new model(object).validate()
    return []
  } catch (error) {
    return [`${object.kind} ${object.metadata.name}: ${(error as Error).message}`]
  }
}

// Only TypeScript checks these types strictly: it reports an object literal with a property that its type does not have.
function typeErrors(folder: string, objects: Manifest[]): string[] {
  const lines = objects.map((object) => {
    const type = object.kind === 'ObjectStore' ? OBJECT_STORE : `import('${moduleOf(object)}').I${object.kind}`
    return `void (${JSON.stringify(object, null, 1)} satisfies ${type})`
  })

  const file = join(folder, 'objects.ts')
  writeFileSync(file, lines.join('\n'))
  const options = [
    '--ignoreConfig',
    '--noEmit',
    '--strict',
    '--skipLibCheck',
    '--types',
    '',
    '--module',
    'esnext',
    '--moduleResolution',
    'bundler',
  ]
  try {
    // env -i: tap loads itself into every Node.js process through the environment, which breaks tsc.
    const tsc = fileURLToPath(new URL('node_modules/.bin/tsc', repository))
    execFileSync('env', ['-i', `PATH=${process.env.PATH}`, tsc, ...options, file], { encoding: 'utf8' })
    return []
  } catch (error) {
    return [(error as { stdout: string }).stdout]
  }
}

function moduleOf({ apiVersion, kind }: Manifest): string {
  const group = apiVersion.split('/')[0]
  return `${packages[group] ?? 'kubernetes-models/'}${apiVersion}/${kind}`
}
