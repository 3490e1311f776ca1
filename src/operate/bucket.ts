import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { AwsClient } from 'aws4fetch'

export interface BucketOptions {
  /** URL of the folder of the objects, with the bucket in its path: https://s3.example.com/bucket/folder. */
  url: string
  accessKeyId: string
  secretAccessKey: string
  /** Absent: taken from the URL of AWS, Cloudflare or Backblaze; us-east-1 for others. */
  region?: string | undefined
}

/** A folder in a storage with the S3 API. All methods throw if a request fails. */
export type Bucket = ReturnType<typeof openBucket>

/** The size of a part: one is in memory at a time, and is sent again if it fails. S3 requires at least 5 MiB. */
const PART_BYTES = 8 * 1024 * 1024
/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html */
const MAX_PARTS = 10_000
/** For one request. A part may take long over a slow network. */
const TIMEOUT_MS = 300_000

export function openBucket({ url, region, ...credentials }: BucketOptions) {
  const base = url.replace(/\/*$/, '/')
  const client = new AwsClient({ ...credentials, service: 's3', retries: 5, ...(region ? { region } : {}) })

  return { size, put, get, names }

  /** @returns the size in bytes; undefined: the object does not exist */
  async function size(key: string): Promise<number | undefined> {
    const response = await ask('HEAD', key)
    if (response.status === 404) return undefined
    await refuse(response, 'HEAD', key)
    return Number(response.headers.get('content-length'))
  }

  /** Uploads a file and checks its stored size, which it returns. */
  async function put(key: string, path: string): Promise<number> {
    const file = await open(path)
    try {
      const { size: bytes } = await file.stat()
      if (bytes <= PART_BYTES) await send('PUT', key, '', await read(file, 0, bytes))
      else await putInParts(key, file, bytes)
      const stored = await size(key)
      if (stored !== bytes) throw new Error(`object storage has ${stored} bytes of ${key} instead of ${bytes}`)
      return bytes
    } finally {
      await file.close()
    }
  }

  // https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html, with UploadPart, CompleteMultipartUpload and
  // AbortMultipartUpload
  async function putInParts(key: string, file: FileHandle, bytes: number): Promise<void> {
    const begun = await (await send('POST', key, '?uploads=')).text()
    const uploadId = /<UploadId>([^<]+)</.exec(begun)?.[1]
    if (uploadId === undefined) throw new Error(`object storage gave no upload id for ${key}`)
    const upload = `uploadId=${encodeURIComponent(uploadId)}`
    try {
      const partBytes = Math.max(PART_BYTES, Math.ceil(bytes / MAX_PARTS))
      let parts = ''
      for (let number = 1, from = 0; from < bytes; number++, from += partBytes) {
        const part = await read(file, from, Math.min(partBytes, bytes - from))
        const { headers } = await send('PUT', key, `?partNumber=${number}&${upload}`, part)
        parts += `<Part><PartNumber>${number}</PartNumber><ETag>${headers.get('etag')}</ETag></Part>`
      }
      const list = Buffer.from(`<CompleteMultipartUpload>${parts}</CompleteMultipartUpload>`)
      const answer = await (await send('POST', key, `?${upload}`, list)).text()
      // S3 sends the status 200 before it knows the result.
      if (!answer.includes('CompleteMultipartUploadResult')) throw new Error(complaint(200, answer, 'POST', key))
    } catch (error) {
      // Otherwise the parts would be kept, and cost money, until someone finds them.
      await ask('DELETE', key, `?${upload}`).catch(() => {})
      throw error
    }
  }

  /** Downloads an object into a new file. */
  async function get(key: string, path: string): Promise<void> {
    const response = await send('GET', key)
    await pipeline(Readable.fromWeb(response.body as never), createWriteStream(path, { flags: 'wx', flush: true }))
  }

  /** The names of the subfolders, sorted: the newest backup is last. */
  async function names(): Promise<string[]> {
    const { pathname } = new URL(base)
    const [, bucket, prefix = ''] = /^\/([^/]+)\/(.*)$/.exec(pathname) ?? []
    const found: string[] = []
    for (let token = ''; ; ) {
      const query = new URLSearchParams({ 'list-type': '2', delimiter: '/', prefix: decodeURIComponent(prefix) })
      if (token !== '') query.set('continuation-token', token)
      const answer = await (await send('GET', new URL(`/${bucket}`, base).href, `?${query}`)).text()
      found.push(
        ...[...answer.matchAll(/<Prefix>[^<]*?([^</]+)\/<\/Prefix><\/CommonPrefixes>/g)].map(
          ([, name]) => name as string,
        ),
      )
      token = /<NextContinuationToken>([^<]+)</.exec(answer)?.[1] ?? ''
      if (token === '') return found.sort()
    }
  }

  async function send(method: string, key: string, query = '', body?: Buffer<ArrayBuffer>): Promise<Response> {
    const response = await ask(method, key, query, body)
    await refuse(response, method, key)
    return response
  }

  // The hash of the body is signed, so the server refuses a body that was changed on the way.
  function ask(method: string, key: string, query = '', body?: Buffer<ArrayBuffer>): Promise<Response> {
    const headers = {
      'x-amz-content-sha256': createHash('sha256')
        .update(body ?? '')
        .digest('hex'),
    }
    const signal = AbortSignal.timeout(TIMEOUT_MS)
    const init = { method, headers, signal, redirect: 'manual' as const, ...(body === undefined ? {} : { body }) }
    return client.fetch(new URL(key, base).href + query, init)
  }
}

async function refuse(response: Response, method: string, key: string): Promise<void> {
  if (!response.ok) throw new Error(complaint(response.status, await response.text(), method, key))
}

const complaint = (status: number, answer: string, method: string, key: string) =>
  `object storage answered ${status} ${/<Code>(\w+)</.exec(answer)?.[1] ?? ''} to ${method} ${key}`

async function read(file: FileHandle, from: number, bytes: number): Promise<Buffer<ArrayBuffer>> {
  const buffer = Buffer.allocUnsafe(bytes)
  const { bytesRead } = await file.read(buffer, 0, bytes, from)
  if (bytesRead !== bytes) throw new Error('a file became shorter while it was read')
  return buffer
}
