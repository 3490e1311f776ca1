import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream } from 'node:stream/web'
import { setTimeout as sleep } from 'node:timers/promises'
import { S3mini, S3ServiceError, type UploadPart } from 's3mini'

interface BucketOptions {
  /** URL of the folder of the objects, with the bucket in its path: https://s3.example.com/bucket/folder. */
  url: string
  accessKeyId: string
  secretAccessKey: string
  /** Absent: the region in the URL; us-east-1 if there is none. */
  region?: string | undefined
  /** How long a request is repeated, in seconds, if the storage cannot be reached. */
  waitSeconds?: number
}

/** A folder in a storage with the S3 API. All methods throw if a request fails. */
export type Bucket = ReturnType<typeof openBucket>

/** The size of a part: one is in memory at a time, and is sent again if it fails. S3 requires at least 5 MiB. */
const PART_BYTES = 8 * 1024 * 1024
/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html */
const MAX_PARTS = 10_000
/** For one request. A part may take long over a slow network. */
const TIMEOUT_MS = 300_000
const RETRIES = 5
const FIRST_WAIT_MS = 50
/** The pause after a request that did not reach the storage. */
const UNREACHABLE_WAIT_MS = 500

export function openBucket({ url, region, waitSeconds = 0, ...credentials }: BucketOptions) {
  const { origin, hostname, pathname } = new URL(url)
  const [, bucket, folder = ''] = /^(\/[^/]+)\/*(.*?)\/*$/.exec(pathname) ?? []
  const prefix = folder === '' ? '' : `${decodeURIComponent(folder)}/`
  const s3 = new S3mini({
    ...credentials,
    endpoint: `${origin}${bucket}`,
    region:
      region ?? /\bs3(?:-fips)?[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d+)\./.exec(hostname)?.[1] ?? 'us-east-1',
    fetch: (...request) => fetchWithRetries(request, waitSeconds),
  })

  return { exists, put, get, names }

  async function exists(key: string): Promise<boolean> {
    return (await resultOf('HEAD', key, s3.objectExists(prefix + key))) === true
  }

  /** Uploads a file and checks its stored size, which it returns. */
  async function put(key: string, path: string): Promise<number> {
    const file = await open(path)
    try {
      const { size: bytes } = await file.stat()
      if (bytes <= PART_BYTES) await putAtOnce(key, await read(file, 0, bytes))
      else await putInParts(key, file, bytes)
      const stored = await resultOf('HEAD', key, s3.getContentLength(prefix + key))
      if (stored !== bytes) throw new Error(`object storage has ${stored} bytes of ${key} instead of ${bytes}`)
      return bytes
    } finally {
      await file.close()
    }
  }

  async function putAtOnce(key: string, content: Buffer): Promise<void> {
    await resultOf('PUT', key, s3.putObject(prefix + key, content, undefined, undefined, digestOf(content)))
  }

  async function putInParts(key: string, file: FileHandle, bytes: number): Promise<void> {
    const id = await resultOf('POST', key, s3.getMultipartUploadId(prefix + key))
    try {
      const partBytes = Math.max(PART_BYTES, Math.ceil(bytes / MAX_PARTS))
      const parts: UploadPart[] = []
      for (let from = 0; from < bytes; from += partBytes) {
        const part = await read(file, from, Math.min(partBytes, bytes - from))
        const upload = s3.uploadPart(prefix + key, id, part, parts.length + 1, {}, undefined, digestOf(part))
        parts.push(await resultOf('PUT', key, upload))
      }
      // S3 sends the status 200 before it knows the result. The client returns an error that comes after that.
      const result: { etag?: string; Error?: { Code?: string } } = await resultOf(
        'POST',
        key,
        s3.completeMultipartUpload(prefix + key, id, parts),
      )
      if (result.etag === undefined) throw new Error(complaint(200, result.Error?.Code, 'POST', key))
    } catch (error) {
      // Otherwise the parts would be kept, and cost money, until someone finds them.
      await s3.abortMultipartUpload(prefix + key, id).catch(() => {})
      throw error
    }
  }

  /** Downloads an object into a new file. */
  async function get(key: string, path: string): Promise<void> {
    const response = await resultOf('GET', key, s3.getObjectRaw(prefix + key))
    await pipeline(
      Readable.fromWeb(response.body as ReadableStream),
      createWriteStream(path, { flags: 'wx', flush: true }),
    )
  }

  /** The names of the subfolders, sorted: the newest backup is last. */
  async function names(): Promise<string[]> {
    const found = await resultOf('GET', '', s3.listObjects('/', prefix, undefined, { delimiter: '/' }))
    if (found === null) throw new Error(complaint(404, 'NoSuchBucket', 'GET', ''))
    return found.flatMap(({ Key }) => /([^/]+)\/$/.exec(Key.slice(prefix.length))?.[1] ?? []).sort()
  }
}

/** The client does not repeat requests. It also does not sign a hash of the body: see digestOf. */
async function fetchWithRetries([url, init]: Parameters<typeof fetch>, waitSeconds: number): Promise<Response> {
  const deadline = performance.now() + waitSeconds * 1000
  for (let retries = 0; ; retries++) {
    const response = await fetchWhenReachable([url, init], deadline)
    if ((response.status < 500 && response.status !== 429) || retries === RETRIES) return response
    await response.body?.cancel()
    await sleep(Math.random() * FIRST_WAIT_MS * 2 ** retries)
  }
}

/** Repeats a request until there is a response. A network policy admits a new pod only about a second after its start. */
async function fetchWhenReachable([url, init = {}]: Parameters<typeof fetch>, deadline: number): Promise<Response> {
  while (true) {
    // A large download takes longer. It fails if no data arrives for 300 seconds: that is Node's default.
    const signal = init.method === 'GET' ? null : AbortSignal.timeout(TIMEOUT_MS)
    try {
      return await fetch(url, { ...init, signal, redirect: 'manual' })
    } catch (error) {
      // fetch throws a TypeError for every failure of the network, DNS and TLS included.
      if (!(error instanceof TypeError)) throw error
      if (performance.now() >= deadline)
        throw new Error(`cannot reach the object storage of BACKUP_BUCKET_URL, ${new URL(String(url)).origin}`, {
          cause: error,
        })
    }
    await sleep(UNREACHABLE_WAIT_MS)
  }
}

/** The client signs this header, so the server refuses a body that was changed on the way. */
const digestOf = (body: Buffer) => ({ 'content-md5': createHash('md5').update(body).digest('base64') })

async function resultOf<T>(method: string, key: string, request: Promise<T>): Promise<T> {
  try {
    return await request
  } catch (error) {
    // getContentLength wraps the error.
    const reason = error instanceof S3ServiceError ? error : (error as Error).cause
    if (reason instanceof S3ServiceError) throw new Error(complaint(reason.status, reason.serviceCode, method, key))
    throw error
  }
}

function complaint(status: number, code = '', method: string, key: string): string {
  const advice = ADVICE[code] ?? ADVICE[status]
  return `object storage answered ${status} ${code} to ${method} ${key}${advice === undefined ? '' : `. ${advice}`}`
}

/** What to do, by the code of S3 or, where there is none, by status. */
const ADVICE: Record<string, string> = {
  InvalidAccessKeyId: 'Correct AWS_ACCESS_KEY_ID',
  SignatureDoesNotMatch: 'Correct AWS_SECRET_ACCESS_KEY, or AWS_REGION',
  AuthorizationHeaderMalformed: 'Set AWS_REGION to the region of the bucket',
  PermanentRedirect: 'Set AWS_REGION, and BACKUP_BUCKET_URL, to the region of the bucket',
  NoSuchBucket: 'Create the bucket, or correct BACKUP_BUCKET_URL',
  NoSuchKey: 'The object does not exist: "sluice backups list" shows the backups',
  RequestTimeTooSkewed: 'Correct the clock of this machine',
  SlowDown: 'Try again later',
  403: 'The access key needs the right to list, read and write in the bucket of BACKUP_BUCKET_URL',
  404: 'Correct BACKUP_BUCKET_URL: the bucket is the first part of its path',
  301: 'Correct BACKUP_BUCKET_URL: the storage redirects to another address',
  307: 'Correct BACKUP_BUCKET_URL: the storage redirects to another address',
  507: 'The storage is full',
}

async function read(file: FileHandle, from: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(bytes)
  const { bytesRead } = await file.read(buffer, 0, bytes, from)
  if (bytesRead !== bytes) throw new Error('a file became shorter while it was read')
  return buffer
}
