import { brotliCompressSync, constants, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { type Case, LINES, RECORD } from './case.ts'

const coded = (coding: string) => ({ 'content-encoding': coding })
const utf16 = (text: string) => Buffer.from(text, 'utf16le')

/** The compression or the encoding of a body. */
export const BYTES: Case[] = [
  [
    'gzip',
    gzipSync(RECORD),
    {},
    'invalid_utf8',
    undefined,
    /byte offset 1\. It looks like gzip\. Send it with Content-Encoding: gzip/,
  ],
  ['zstd', zstdCompressSync(RECORD), {}, 'invalid_utf8', undefined, /zstd\. Send it with Content-Encoding: zstd/],
  ['brotli', brotliCompressSync(RECORD), {}, 'invalid_utf8', undefined, /brotli\. Send it with Content-Encoding: br/],
  ['zlib', deflateSync(RECORD), {}, 'invalid_utf8', undefined, /Send it with Content-Encoding: deflate/],
  ['gzip twice', gzipSync(gzipSync(RECORD)), coded('gzip'), 'invalid_utf8', undefined, /compressed twice/],
  ['ZIP', Buffer.from('504b0304ff', 'hex'), {}, 'invalid_utf8', undefined, /ZIP archive.*Send its content as JSON/],
  ['PDF', Buffer.from('%PDF-1.7\n%\xe2\xe3', 'latin1'), {}, 'invalid_utf8', undefined, /PDF.*data_base64/],
  ['UTF-16 with a mark', utf16(`\ufeff${RECORD}`), {}, 'invalid_utf8', undefined, /UTF-16.*Send it as UTF-8/],
  ['UTF-16', utf16(RECORD), {}, 'invalid_json', undefined, /UTF-16.*Send it as UTF-8/],
  [
    'Windows-1252',
    Buffer.from('{"source":"caf\xe9"}', 'latin1'),
    {},
    'invalid_utf8',
    undefined,
    /iconv -f WINDOWS-1252 -t UTF-8/,
  ],
  ['gzip as lines', gzipSync(RECORD), LINES, 'rejected', undefined, /Line 1: .*Send it with Content-Encoding: gzip/],
  [
    'Latin-1 in a line',
    Buffer.from(`{}\n{"a":"\xe9"}`, 'latin1'),
    LINES,
    'rejected',
    undefined,
    /All reasons are in rejections/,
  ],
  ['plain as gzip', RECORD, coded('gzip'), 'corrupt_encoding', undefined, /not compressed\..*omit Content-Encoding/],
  [
    'zstd as gzip',
    zstdCompressSync(RECORD),
    coded('gzip'),
    'corrupt_encoding',
    undefined,
    /looks like zstd\. Correct Content-Encoding/,
  ],
  [
    'a part of gzip',
    gzipSync(RECORD).subarray(0, 30),
    coded('gzip'),
    'corrupt_encoding',
    undefined,
    /truncated\. Send all/,
  ],
  ['raw deflate', deflateRawSync(RECORD), coded('deflate'), 'corrupt_encoding', undefined, /zlib format/],
  ['nothing as gzip', '', coded('gzip'), 'corrupt_encoding', undefined, /it is empty/],
  [
    'two codings',
    gzipSync(RECORD),
    coded('gzip, br'),
    'unsupported_encoding',
    undefined,
    /Use one of gzip, br, zstd, deflate, or .* without Content-Encoding/,
  ],
  [
    'a large zstd window',
    zstdCompressSync(Buffer.alloc(9e6, 'x'), { params: { [constants.ZSTD_c_windowLog]: 27 } }),
    coded('zstd'),
    'unsupported_encoding',
    undefined,
    /window.*8 MiB.*zstd -19 or lower.*--long=23/,
  ],
]
