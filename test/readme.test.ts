import { readFile } from 'node:fs/promises'
import t from 'tap'
import { configTable } from '../scripts/config-table.ts'

t.test("the README's table of settings is the one that the schema makes", async (t) => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  t.ok(readme.includes(configTable()), 'renew it with: node scripts/config-table.ts')
})
