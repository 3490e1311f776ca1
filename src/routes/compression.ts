import { constants, type ZlibOptions } from 'node:zlib'
import type { FastifyRequest } from 'fastify'

/** In bytes. The compressor of a larger answer stays until its reader has taken nearly all of it. */
export const COMPRESSED_AT_ONCE = 64 * 1024

/**
 * Given to each route, which takes nothing from the options of the plugin. The compressors look back less far than they could,
 * and have smaller tables: brotli would take 12 MiB for each reader who stands still, zstd 3, and the answers get hardly smaller.
 */
export const COMPRESSION = {
  encodings: ['zstd' as const, 'br' as const, 'gzip' as const],
  // The library's own list does not have application/x-ndjson.
  customTypes: /^text\/csv\b|[/+-](?:nd)?json\b/,
  syncThreshold: COMPRESSED_AT_ONCE,
  brotliOptions: {
    params: {
      // The library's own quality, which is lost where there are other params.
      [constants.BROTLI_PARAM_QUALITY]: 4,
      [constants.BROTLI_PARAM_LGWIN]: 18,
      // For texts of a mebibyte and more there are tables of 4 MiB.
      [constants.BROTLI_PARAM_SIZE_HINT]: 64 * 1024,
    },
  },
  // Also those of zstd; gzip has no `params`.
  zlibOptions: { params: { [constants.ZSTD_c_windowLog]: 17 } } as ZlibOptions,
}

/** What a compressor holds at most. Measured by test/routes/compression.test.ts: up to 1.6 MiB, and a reserve. */
const COMPRESSOR_BYTES = 2 * 1024 * 1024

/** What the compressor of an answer to this request holds, if there is one. */
export const compressorBytes = ({ headers }: FastifyRequest): number =>
  headers['accept-encoding'] === undefined ? 0 : COMPRESSOR_BYTES
