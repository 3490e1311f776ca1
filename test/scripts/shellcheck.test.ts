import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { missing } from '../helpers/skipping.ts'

t.test('shellcheck accepts every shell script', { skip: missing('shellcheck') }, async (t) => {
  const cwd = fileURLToPath(new URL('../../', import.meta.url))
  const scripts = ['scripts', 'k8s'].flatMap((folder) =>
    readdirSync(`${cwd}${folder}`, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.sh'))
      .map((name) => `${folder}/${name}`),
  )
  t.ok(scripts.length >= 3)
  execFileSync('shellcheck', scripts, { cwd, stdio: 'inherit' })
})
