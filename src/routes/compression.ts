import { constants, type ZlibOptions } from 'node:zlib'
import type { FastifyRequest } from 'fastify'

/** In bytes. For a larger response, the compressor stays in memory until the reader has taken nearly all of it. */
export const COMPRESSED_AT_ONCE = 64 * 1024

/**
 * Passed to each route, because routes do not inherit the plugin's options. Windows and tables are smaller than the defaults:
 * with those, brotli takes 12 MiB and zstd 3 MiB for each stalled reader, and responses are hardly smaller.
 */
export const COMPRESSION = {
  encodings: ['zstd' as const, 'br' as const, 'gzip' as const],
  // The library's own list lacks the types of lines.
  customTypes: /^text\/csv\b|[/+-](?:nd)?jsonl?\b/,
  syncThreshold: COMPRESSED_AT_ONCE,
  brotliOptions: {
    params: {
      // The library's default quality, which is lost when other params are set.
      [constants.BROTLI_PARAM_QUALITY]: 4,
      [constants.BROTLI_PARAM_LGWIN]: 18,
      // For texts of 1 MiB or more, brotli uses tables of 4 MiB.
      [constants.BROTLI_PARAM_SIZE_HINT]: 64 * 1024,
    },
  },
  // The library uses these for zstd as well; gzip has no `params`.
  zlibOptions: { params: { [constants.ZSTD_c_windowLog]: 17 } } as ZlibOptions,
}

/** Maximum memory that a compressor holds: 1.6 MiB, measured by test/routes/compression.test.ts, and a reserve. */
const COMPRESSOR_BYTES = 2 * 1024 * 1024

/** Memory for the compressor of the response to this request; 0 without one. */
export const compressorBytes = ({ headers }: FastifyRequest): number =>
  headers['accept-encoding'] === undefined ? 0 : COMPRESSOR_BYTES
