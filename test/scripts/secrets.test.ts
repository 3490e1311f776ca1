import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { parseAllDocuments } from 'yaml'
import { type Manifest, overlays, readManifests } from '../helpers/kustomize.ts'
import { missing } from '../helpers/skipping.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const encrypted = readFileSync(join(root, 'test/fixtures/secret.sops.yaml'), 'utf8')

t.test('secrets.sh check', async (t) => {
  const repository = makeRepository(t)
  const check = (files: Record<string, string>, ...options: string[]) => {
    for (const [name, text] of Object.entries(files)) repository.write(name, text)
    const result = repository.run('check', ...options)
    for (const name of Object.keys(files)) rmSync(join(repository.folder, name))
    return result
  }
  const secret = (rest: string) => `apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\n${rest}`

  t.test('accepts the files of the repository', async (t) => {
    t.equal(repository.run('check').status, 0)
    t.equal(spawnSync('scripts/secrets.sh', ['check'], { cwd: root }).status, 0, 'the original repository as well')
  })

  const plain: Record<string, string> = {
    'a plain value': secret('stringData:\n  password: hunter2\n'),
    'a base64 value': secret('data:\n  password: aHVudGVyMg==\n'),
    'a quoted value': secret(`data:\n  "password": 'aHVudGVyMg=='\n`),
    'one plain value beside an encrypted one': encrypted.replace(/username: ENC.*/, 'username: sluice_api'),
    'a block of text': secret('stringData:\n  file: |\n    hunter2\n'),
    'a value on the next line': secret('stringData:\n  password:\n    hunter2\n'),
    'flow style': secret('stringData: {password: hunter2}\n'),
    'a Secret that is all in flow style': '{apiVersion: v1, kind: Secret, stringData: {password: hunter2}}\n',
    JSON: JSON.stringify({ apiVersion: 'v1', kind: 'Secret', stringData: { password: 'hunter2' } }, null, 2),
    'JSON on one line': JSON.stringify({ apiVersion: 'v1', kind: 'Secret', data: { password: 'aHVudGVyMg==' } }),
    'the second of two documents': `kind: ConfigMap\n---\n${secret('data:\n  password: aHVudGVyMg==\n')}`,
    'the first of two documents': `${secret('data:\n  password: aHVudGVyMg==\n')}---\nkind: ConfigMap\n`,
    'a Secret in a List': 'kind: List\nitems:\n  - kind: Secret\n    stringData:\n      password: hunter2\n',
    'the kind at the end': 'stringData:\n  password: hunter2\nkind: Secret\n',
    'Windows line endings': secret('stringData:\n  password: hunter2\n').replaceAll('\n', '\r\n'),
    'a value that only looks encrypted': secret('stringData:\n  password: ENC[hunter2]\nsops:\n  mac: x\n'),
    'encrypted values without the metadata to decrypt them': encrypted.slice(0, encrypted.indexOf('sops:')),
    'a secretGenerator': 'secretGenerator:\n  - name: a\n    literals: [password=hunter2]\n',
  }
  for (const [what, text] of Object.entries(plain)) {
    t.test(`refuses ${what}, with its location and without its value`, async (t) => {
      const result = check({ [/^\{/.test(text) && what.startsWith('JSON') ? 'k8s/a.json' : 'k8s/a.yaml']: text })
      t.equal(result.status, 1)
      t.match(result.stdout, /^k8s\/a\.(yaml|json):\d+: /)
      t.notMatch(result.stdout + result.stderr, /hunter2|aHVudGVyMg/)
    })
  }

  const fine: Record<string, string> = {
    'an encrypted Secret': encrypted,
    'a Secret without values': secret('stringData:\n  password:\n  other: ""\ndata: {}\n'),
    'a ConfigMap': 'kind: ConfigMap\ndata:\n  password: no secret\n',
    'a file that only refers to a Secret': 'kind: Component\npatches:\n  - target:\n      kind: Secret\n    patch: x\n',
    'a SecretStore': 'kind: SecretStore\ndata:\n  a: b\n',
  }
  for (const [what, text] of Object.entries(fine)) {
    t.test(`accepts ${what}`, async (t) => {
      t.match(check({ 'k8s/a.yaml': text }), { status: 0, stdout: '' })
    })
  }

  t.test('--staged checks the staged content of a file and not the content in the folder', async (t) => {
    repository.write('k8s/a.yaml', secret('data:\n  password: aHVudGVyMg==\n'))
    repository.git('add', 'k8s/a.yaml')
    repository.write('k8s/a.yaml', secret(''))
    t.equal(repository.run('check', '--staged').status, 1)
    repository.git('rm', '--quiet', '--cached', '-f', 'k8s/a.yaml')
    t.equal(repository.run('check', '--staged').status, 0)
    rmSync(join(repository.folder, 'k8s/a.yaml'))
  })

  t.test('the hook refuses a commit with a plain Secret, and allows one with an encrypted Secret', async (t) => {
    t.equal(repository.run('hook').status, 0)
    t.equal(repository.run('hook').status, 0, 'it can be installed again')
    repository.write('k8s/a.yaml', secret('data:\n  password: aHVudGVyMg==\n'))
    repository.git('add', 'k8s/a.yaml')
    t.throws(() => repository.git('commit', '--quiet', '--message', 'a'))
    repository.write('k8s/a.yaml', encrypted)
    repository.git('add', 'k8s/a.yaml')
    t.doesNotThrow(() => repository.git('commit', '--quiet', '--message', 'a'))
  })

  t.test('hook does not change an existing hook, and says which line to add', async (t) => {
    const other = makeRepository(t)
    other.write('.git/hooks/pre-commit', '#!/bin/sh\n')
    t.match(other.run('hook'), { status: 1, stderr: /add this line to it: scripts\/secrets\.sh check --staged/ })
    t.equal(readFileSync(join(other.folder, '.git/hooks/pre-commit'), 'utf8'), '#!/bin/sh\n')
  })
})

const skip = missing('sops') || missing('age-keygen')

t.test('secrets.sh with SOPS', { skip }, async (t) => {
  const repository = makeRepository(t)
  const decrypt = () => {
    const text = execFileSync('sops', ['decrypt', 'k8s/overlays/k3s/secrets.sops.yaml'], {
      cwd: repository.folder,
      encoding: 'utf8',
      env: { ...process.env, SOPS_AGE_KEY_FILE: repository.keyFile },
    })
    return new Map(parseAllDocuments(text).map((one) => [one.toJS().metadata.name, one.toJS().stringData as Manifest]))
  }
  const example = readManifests('k8s/overlays/k3s/secrets.sops.yaml')

  t.test('init creates a key that only its owner can read, and fills the example with strong values', async (t) => {
    t.match(repository.run('init'), { status: 0, stderr: '' })
    t.equal(statSync(repository.keyFile).mode & 0o777, 0o600)
    t.match(readFileSync(join(repository.folder, '.sops.yaml'), 'utf8'), /^ {4}age: age1[a-z0-9]{58}$/m)
    t.equal(repository.run('check').status, 0)

    const values = decrypt()
    t.strictSame(
      [...values.keys()],
      example.map(({ metadata }) => metadata.name),
    )
    t.match(values.get('sluice-postgres'), { POSTGRES_USER: 'postgres', POSTGRES_DB: 'sluice' })
    t.equal(values.get('sluice-api').username, 'sluice_api')
    t.match(values.get('sluice-first-key').SLUICE_BOOTSTRAP_KEY, /^sluice_[0-9a-f]{12}_[\w-]{43}$/)
    const passwords = [...values.values()].map((one) => one.password ?? one.POSTGRES_PASSWORD).filter(Boolean)
    t.equal(new Set(passwords).size, 6)
    for (const password of passwords) t.match(password, /^[\w-]{43}$/)
  })

  t.test('init does not replace values that are in use', async (t) => {
    const before = decrypt()
    t.match(repository.run('init'), { status: 1, stderr: /encrypted already/ })
    t.strictSame(decrypt(), before)
  })

  t.test('rotate replaces the values of the named Secret and of no other', async (t) => {
    const before = decrypt()
    t.equal(repository.run('rotate', 'k3s', 'api').status, 0)
    const after = decrypt()
    t.not(after.get('sluice-api').password, before.get('sluice-api').password)
    t.equal(after.get('sluice-api').username, 'sluice_api')
    for (const [name, values] of before) if (name !== 'sluice-api') t.strictSame(after.get(name), values, name)
    t.match(repository.run('rotate', 'k3s', 'nobody'), { status: 1, stderr: /there is no Secret sluice-nobody/ })
  })

  t.test('rotate age-key encrypts the same values for a new key, and the old key cannot read them', async (t) => {
    const before = decrypt()
    const old = readFileSync(repository.keyFile, 'utf8')
    t.equal(repository.run('rotate', 'age-key').status, 0)
    t.strictSame(decrypt(), before)
    const both = readFileSync(repository.keyFile, 'utf8')
    writeFileSync(repository.keyFile, old)
    t.throws(decrypt)
    writeFileSync(repository.keyFile, both)
  })

  t.test('a key inside the repository is refused', async (t) => {
    const other = makeRepository(t)
    const result = other.runWith({ SOPS_AGE_KEY_FILE: join(other.folder, 'keys.txt') }, 'init')
    t.match(result, { status: 1, stderr: /inside the repository/ })
  })
})

/** A repository with the scripts and manifests of this one, and a path for an age key outside of it. */
function makeRepository(t: Test) {
  const home = mkdtempSync(join(tmpdir(), 'sluice-secrets-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  const folder = join(home, 'repository')
  const keyFile = join(home, 'age/keys.txt')
  for (const part of ['scripts/secrets.sh', 'k8s', '.sops.yaml'])
    cpSync(join(root, part), join(folder, part), { recursive: true })
  // Restores the example: in a copy of the repository whose owner has run init, it is replaced.
  const edit = (name: string, change: (text: string) => string) =>
    writeFileSync(join(folder, name), change(readFileSync(join(folder, name), 'utf8')))
  edit('.sops.yaml', (text) => text.replace(/^( +age:).*$/m, '$1 ""'))
  for (const overlay of overlays)
    edit(`k8s/overlays/${overlay}/secrets.sops.yaml`, (text) => text.replaceAll(/ENC\[.*?\]/g, ''))
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@example.com', ...args], {
      cwd: folder,
      stdio: 'pipe',
    })
  git('init', '--quiet')
  git('add', '.')

  const runWith = (env: Record<string, string>, ...args: string[]) =>
    spawnSync('scripts/secrets.sh', args, {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, SOPS_AGE_KEY_FILE: keyFile, ...env },
    })
  return {
    folder,
    keyFile,
    git,
    runWith,
    run: (...args: string[]) => runWith({}, ...args),
    write(name: string, text: string) {
      mkdirSync(dirname(join(folder, name)), { recursive: true })
      writeFileSync(join(folder, name), text)
      if (name.includes('hooks')) chmodSync(join(folder, name), 0o755)
    },
  }
}
