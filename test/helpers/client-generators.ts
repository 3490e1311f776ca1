import { registerHooks } from 'node:module'

// They use the JavaScript API of TypeScript, which TypeScript 7 does not have. The hook must come before they are loaded.
registerHooks({
  resolve: (specifier, context, next) => next(specifier === 'typescript' ? 'typescript-5' : specifier, context),
})

const { default: toAst, astToString } = await import('openapi-typescript')
const { createClient } = await import('@hey-api/openapi-ts')

/** Types for openapi-fetch. Rejects if the document is not valid OpenAPI. */
export const writeTypes = async (document: object): Promise<string> => astToString(await toAst(document as never))

/** Writes a client of hey-api into a folder. */
export async function writeClient(document: Record<string, unknown>, folder: string): Promise<void> {
  await createClient({ input: document, output: folder, logs: { level: 'silent', file: false } })
}
