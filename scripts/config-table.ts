import { pathToFileURL } from 'node:url'
import type { TSchema } from '@sinclair/typebox'
import { allowed, ConfigSchema } from '../src/config.ts'

/** Builds the table of settings in src/README.md from the schema that checks them. `npx node scripts/config-table.ts` prints it. */
export function configTable(): string {
  const rows = Object.entries<TSchema>(ConfigSchema.properties).map(
    ([name, schema]) =>
      `| \`${name}\` | ${schema.default ?? ''} | ${schema.description} | ${allowed(schema).replaceAll('|', '\\|')} |`,
  )
  return ['| variable | default | meaning | allowed values |', '| --- | --- | --- | --- |', ...rows].join('\n')
}

if (import.meta.url === pathToFileURL(process.argv[1] as string).href) console.log(configTable())
