import { constants } from 'node:zlib'
import compress from '@fastify/compress'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

/** Compresses the answers of the routes that ask for it with `compress: {}`; the others do not pay for the hook. */
export default fp(async function compression(app: FastifyInstance) {
  await app.register(compress, {
    global: false,
    globalDecompression: false,
    encodings: ['zstd', 'br', 'gzip'],
    // The library's 11 is for files that are compressed once: it takes a hundred times as long.
    brotliOptions: { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } },
  })
})
