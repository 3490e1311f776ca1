import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { extname } from 'node:path'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'

/** The files that browsers may have, by their extension. */
const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
}

export interface StaticFile {
  type: string
  /** A weak entity tag (RFC 9110, section 8.8.3): both forms of the file have it. */
  tag: string
  plain: Buffer
  gzipped: Buffer
}

export const isStaticFile = (path: string): boolean => extname(path) in TYPES

/** Reads a file and compresses it once, so that a request for it costs next to nothing. @param path with one of the extensions */
export async function readStaticFile(path: string): Promise<StaticFile> {
  const plain = await readFile(path)
  return {
    type: TYPES[extname(path)] as string,
    tag: `W/"${createHash('sha256').update(plain).digest('base64url')}"`,
    plain,
    gzipped: await promisify(gzip)(plain),
  }
}
