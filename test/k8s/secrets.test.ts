import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { decryptSops } from 'sops-age'
import t from 'tap'
import { parse, parseAllDocuments } from 'yaml'
import { type Manifest, overlays, readManifests, render, repository } from '../helpers/kustomize.ts'
import { missing } from '../helpers/skipping.ts'

const skip = missing('kubectl')
const fixture = readFileSync(new URL('test/fixtures/secret.sops.yaml', repository), 'utf8')
// The key of the fixture. Nothing else uses it.
const secretKey = 'AGE-SECRET-KEY-1V0HK7LGENF0KZHFKY4GF2E7XGRN4RHJYVUCNV54FJDLAECNGHRJQYHFAAS'

for (const overlay of overlays) {
  t.test(`${overlay}: kubectl applies no Secrets: they are encrypted, and come through a pipe`, { skip }, async (t) => {
    t.strictSame(
      render(overlay).filter(({ kind }) => kind === 'Secret'),
      [],
    )
  })

  t.test(`${overlay}: a change of the Secrets restarts the pods that use them`, { skip }, async (t) => {
    for (const { of, spec } of render(overlay).filter(({ kind }) =>
      ['Job', 'Deployment', 'StatefulSet'].includes(kind),
    )) {
      t.ok(spec.template.metadata.annotations['secrets-last-modified'], of)
    }
  })

  t.test(`${overlay}: the Secrets are encrypted, or an example without values`, async (t) => {
    const secrets = readManifests(`k8s/overlays/${overlay}/secrets.sops.yaml`)
    for (const { metadata, stringData } of secrets) {
      t.match(metadata.name, /^sluice-/)
      t.equal(metadata.namespace, 'sluice')
      for (const value of Object.values(stringData)) t.match(value ?? 'ENC[', /^ENC\[/, metadata.name)
    }
  })
}

t.test('the commands in the README create the same Secrets as the overlay', { skip }, async (t) => {
  const readme = readFileSync(new URL('k8s/overlays/README.md', repository), 'utf8')
  const [commands] = /^new\(\) .*?(?=^```$)/ms.exec(readme) as RegExpExecArray
  const kubectl =
    'kubectl() { case $* in *"get secret"*) return 1 ;; *create*) command kubectl "$@" --dry-run=client -o json ;; esac; }\n'
  const made = execFileSync('bash', ['-euc', kubectl + commands], { encoding: 'utf8' })
    .split(/(?<=^\}\n)/m)
    .map((text) => JSON.parse(text))
  const keysOf = (values: object) => Object.keys(values).sort()
  t.strictSame(
    made.map(({ metadata, type, data }) => [metadata.namespace, metadata.name, type, keysOf(data)]),
    readManifests('k8s/overlays/k3s/secrets.sops.yaml').map(({ metadata, type, stringData }) => [
      metadata.namespace,
      metadata.name,
      type,
      keysOf(stringData),
    ]),
  )
  const passwords = made.flatMap(({ data }) => data.password ?? data.POSTGRES_PASSWORD ?? data.SLUICE_BOOTSTRAP_KEY)
  t.equal(new Set(passwords).size, made.length)
  for (const password of passwords) t.match(Buffer.from(password, 'base64').toString(), /^(sluice_)?[\w-]{43}$/)
})

t.test('the login of the superuser has its own Secret', async (t) => {
  const [secret] = readManifests('k8s/overlays/k3s/secrets.sops.yaml')
  t.strictSame(Object.keys(secret.stringData), ['POSTGRES_USER', 'POSTGRES_PASSWORD', 'POSTGRES_DB'])
})

t.test('.sops.yaml encrypts data and stringData in the Secrets of the overlays with age', async (t) => {
  const [rule] = parse(readFileSync(new URL('.sops.yaml', repository), 'utf8')).creation_rules
  t.equal(rule.encrypted_regex, '^(data|stringData)$')
  t.ok('age' in rule)
  for (const overlay of overlays) t.match(`k8s/overlays/${overlay}/secrets.sops.yaml`, new RegExp(rule.path_regex))
})

// The fixture was written from the description of the format (https://getsops.io/docs/#encryption-protocol). The test reads it
// with another implementation than the one that adopters use, so this machine does not need sops.
t.test('another implementation of SOPS decrypts the fixture, which is a Secret', async (t) => {
  const manifest = await decryptSops(fixture, { secretKey, fileType: 'yaml' })
  t.match(manifest, { apiVersion: 'v1', kind: 'Secret', type: 'kubernetes.io/basic-auth', sops: undefined })
  t.strictSame(manifest.stringData, { username: 'sluice_api', password: 'fixture-password' })
})

t.test('a value that was moved to another key or altered is not decrypted', async (t) => {
  const swapped = fixture
    .replace('username: ENC', 'x: ENC')
    .replace('password: ENC', 'username: ENC')
    .replace('x: ENC', 'password: ENC')
  await t.rejects(decryptSops(swapped, { secretKey, fileType: 'yaml' }))
  const altered = fixture.replace(/(password: ENC\[AES256_GCM,data:)./, '$1Z')
  await t.rejects(decryptSops(altered, { secretKey, fileType: 'yaml' }))
})

t.test('Flux builds all objects that kubectl applies, and the Secrets', { skip }, async (t) => {
  const objects = renderForFlux()
  const secrets = objects.filter(({ kind }) => kind === 'Secret')
  t.equal(secrets.length, readManifests('k8s/overlays/k3s/secrets.sops.yaml').length)
  const names = ({ kind, metadata }: Manifest) => `${kind} ${metadata.name}`
  t.strictSame(objects.filter(({ kind }) => kind !== 'Secret').map(names), render('k3s').map(names))
})

// The claim is deleted with its namespace, and then local-path deletes the data.
t.test('neither Flux nor Argo CD deletes the namespace', { skip }, async (t) => {
  const [namespace] = renderForFlux().filter(({ kind }) => kind === 'Namespace')
  t.strictSame(namespace.metadata.annotations, { 'kustomize.toolkit.fluxcd.io/prune': 'disabled' })

  // kubectl cannot build this overlay, because it uses KSOPS.
  const [{ patches }] = readManifests('k8s/gitops/argo-cd/kustomization.yaml')
  t.equal(patches[0].target.kind, 'Namespace')
  t.strictSame(JSON.parse(patches[0].patch)[0].value, {
    'argocd.argoproj.io/sync-options': 'Prune=false,Delete=false',
  })
})

function renderForFlux(): Manifest[] {
  const folder = fileURLToPath(new URL('k8s/gitops/flux', repository))
  // Flux uses these options.
  const args = ['kustomize', '--load-restrictor', 'LoadRestrictionsNone', folder]
  const text = execFileSync('kubectl', args, { encoding: 'utf8' })
  return parseAllDocuments(text).map((document) => document.toJS())
}
