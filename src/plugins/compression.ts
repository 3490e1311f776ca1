import compress from '@fastify/compress'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

/**
 * Compresses the answers of the routes that ask for it with `compress: COMPRESSION`; the others do not pay for the hook.
 */
export default fp(async function compression(app: FastifyInstance) {
  await app.register(compress, { global: false, globalDecompression: false })
})

/** Given to each route, which takes nothing from the options of the plugin. */
export const COMPRESSION = {
  encodings: ['zstd' as const, 'br' as const, 'gzip' as const],
  // The library's own list does not have application/x-ndjson.
  customTypes: /^text\/csv\b|[/+-](?:nd)?json\b/,
}
