import { pathToFileURL } from 'node:url'
import type { TSchema } from '@sinclair/typebox'
import { allowed, ConfigSchema } from '../src/config.ts'
import { formatSize } from '../src/lib/size.ts'

/** Builds the table of settings in src/README.md from the schema that checks them. `npx node scripts/config-table.ts` prints it. */
export function configTable(): string {
  const rows = Object.entries<TSchema>(ConfigSchema.properties).map(
    ([name, schema]) =>
      `| \`${name}\` | ${isSize(schema) ? formatSize(schema.default) : (schema.default ?? '')} | ${schema.description} | ${allowed(schema).replaceAll('|', '\\|')} |`,
  )
  return ['| variable | default | meaning | allowed values |', '| --- | --- | --- | --- |', ...rows].join('\n')
}

const isSize = ({ type, title, default: value }: TSchema) =>
  type === 'integer' && title !== undefined && value !== undefined

if (import.meta.url === pathToFileURL(process.argv[1] as string).href) console.log(configTable())
