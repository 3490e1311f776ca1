import { readFile } from 'node:fs/promises'
import t from 'tap'
import { configTable } from '../scripts/config-table.ts'
import { FAULTS } from '../scripts/durability/faults.ts'

const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')

t.test("the README's table of settings is the one that the schema makes", async (t) => {
  t.ok(readme.includes(configTable()), 'renew it with: node scripts/config-table.ts')
})

t.test("the README's report on faults has each that there is", async (t) => {
  const rows = readme.split('\n')
  for (const { title } of FAULTS) {
    t.ok(
      rows.some((row) => row.startsWith(`| ${title} `)),
      `renew it with: npm run -s durability -- --markdown; ${title}`,
    )
  }
})
