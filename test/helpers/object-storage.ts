import { createHash, createHmac } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

interface ObjectStorage {
  /** The URL of a folder in a bucket. */
  url: string
  /** The objects by key, which includes the folder. */
  objects: Map<string, Buffer>
  /** `METHOD /path?query` of each request, in order. */
  requests: string[]
  /** Multipart uploads that are neither completed nor aborted. */
  open: Map<string, Buffer[]>
  /** Called before each response. If it returns a number, the response has that status. */
  fail: (request: string) => number | undefined | Promise<undefined>
  /** Called after the first half of the body of a response. */
  halfway: (response: ServerResponse) => void | Promise<void>
}

/** The folder of the URL. Each space and ampersand is written in another way in a URL, in a query and in XML. */
export const FOLDER = 'our backups & more'

export const credentials = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' }

/** The part of S3 that backups need. It refuses requests with a wrong signature or a changed body. */
export async function startObjectStorage(t: Test): Promise<ObjectStorage> {
  const storage: ObjectStorage = {
    url: '',
    objects: new Map(),
    requests: [],
    open: new Map(),
    fail: () => undefined,
    halfway: () => {},
  }
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray())
    storage.requests.push(`${request.method} ${request.url}`)
    const failure = await storage.fail(`${request.method} ${request.url}`)
    const defect = findDefect(request, body)
    const {
      status,
      headers = {},
      text = '',
    } = failure !== undefined
      ? { status: failure, headers: { location: '/' }, text: '<Error><Code>InternalError</Code></Error>' }
      : defect !== undefined
        ? { status: 403, text: `<Error><Code>${defect}</Code></Error>` }
        : respond(storage, request, body)
    response.writeHead(status, { 'content-type': 'application/xml', 'content-length': text.length, ...headers })
    if (request.method === 'HEAD') return response.end()
    const content = Buffer.from(text)
    await new Promise((sent) => response.write(content.subarray(0, content.length / 2), sent))
    await storage.halfway(response)
    response.end(content.subarray(content.length / 2))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close().closeAllConnections())
  storage.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/bucket/${FOLDER.replaceAll(' ', '%20')}`
  return storage
}

interface Reply {
  status: number
  headers?: Record<string, string | number>
  text?: string | Buffer
}

function respond({ objects, open }: ObjectStorage, request: IncomingMessage, body: Buffer): Reply {
  const { pathname, searchParams: query } = new URL(request.url as string, 'http://s3')
  const [, bucket, key] = /^\/([^/]+)\/?(.*)$/.exec(decodeURIComponent(pathname)) as unknown as [string, string, string]
  if (bucket !== 'bucket') return { status: 404, text: '<Error><Code>NoSuchBucket</Code></Error>' }
  const uploadId = query.get('uploadId')

  switch (request.method) {
    case 'GET':
    case 'HEAD': {
      if (query.has('list-type')) return { status: 200, text: list([...objects.keys()], query) }
      const object = objects.get(key)
      if (object === undefined) return { status: 404, text: '<Error><Code>NoSuchKey</Code></Error>' }
      return { status: 200, headers: { 'content-type': 'application/octet-stream' }, text: object }
    }
    case 'POST': {
      if (uploadId === null) {
        open.set(`upload/${open.size} 1`, [])
        const id = [...open.keys()].at(-1)
        return {
          status: 200,
          text: result('InitiateMultipartUpload', `<Key>${escapeXml(key)}</Key><UploadId>${id}</UploadId>`),
        }
      }
      const parts = [...body.toString().matchAll(/<PartNumber>(\d+)<\/PartNumber><ETag>"?(\w+)"?<\/ETag>/g)]
      const chosen = parts.map(([, number]) => open.get(uploadId)?.[Number(number) - 1] as Buffer)
      if (
        chosen.some(
          (part, at) =>
            part === undefined || md5(part) !== parts[at]?.[2] || (part.length < 5 * 2 ** 20 && at < chosen.length - 1),
        )
      )
        return { status: 200, text: '<Error><Code>InvalidPart</Code></Error>' }
      objects.set(key, Buffer.concat(chosen))
      open.delete(uploadId)
      return {
        status: 200,
        text: result('CompleteMultipartUpload', `<Key>${escapeXml(key)}</Key><ETag>&#34;1-2&#34;</ETag>`),
      }
    }
    case 'PUT': {
      if (uploadId === null) objects.set(key, body)
      else (open.get(uploadId) as Buffer[])[Number(query.get('partNumber')) - 1] = body
      return { status: 200, headers: { etag: `"${md5(body)}"` } }
    }
    default:
      open.delete(uploadId as string)
      return { status: 204 }
  }
}

/** A page has two folders, so that tests get several pages. */
function list(keys: string[], query: URLSearchParams): string {
  const prefix = query.get('prefix') as string
  const folders = new Set(
    keys.filter((key) => key.startsWith(prefix)).map((key) => `${key.slice(prefix.length).split('/')[0]}/`),
  )
  const from = Number(query.get('continuation-token') ?? 0)
  const page = [...folders].sort().slice(from, from + 2)
  const next = from + 2 < folders.size ? `<NextContinuationToken>${from + 2}</NextContinuationToken>` : ''
  const prefixes = page.map(
    (folder) => `<CommonPrefixes><Prefix>${escapeXml(`${prefix}${folder}`)}</Prefix></CommonPrefixes>`,
  )
  return result(
    'ListBucket',
    `<Name>bucket</Name><Prefix>${escapeXml(prefix)}</Prefix><IsTruncated>${next !== ''}</IsTruncated>${next}
    <Contents><Key>${escapeXml(prefix)}</Key><Size>0</Size></Contents>${prefixes.join('')}`,
  )
}

const result = (name: string, content: string) =>
  `<?xml version="1.0" encoding="UTF-8"?>\n<${name}Result xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${content}</${name}Result>`

const escapeXml = (text: string) => text.replaceAll('&', '&amp;')

// Computes the signature of the request that arrived:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
function findDefect({ method, url, headers }: IncomingMessage, body: Buffer): string | undefined {
  const [, scope, names, signature] =
    /^AWS4-HMAC-SHA256 Credential=[^/]+\/([^,]+), SignedHeaders=([^,]+), Signature=(\w+)$/.exec(
      headers.authorization ?? '',
    ) ?? []
  if (scope === undefined || names === undefined) return 'AccessDenied'
  if (headers['x-amz-content-sha256'] !== 'UNSIGNED-PAYLOAD') {
    if (headers['x-amz-content-sha256'] !== sha256(body)) return 'XAmzContentSHA256Mismatch'
  } else if (method === 'PUT') {
    if (!names.split(';').includes('content-md5')) return 'AccessDenied'
    if (headers['content-md5'] !== createHash('md5').update(body).digest('base64')) return 'BadDigest'
  }
  if (!['host', 'x-amz-content-sha256', 'x-amz-date'].every((name) => names.split(';').includes(name)))
    return 'AccessDenied'

  const [path, search = ''] = (url as string).split('?')
  const encode = (text: string) =>
    encodeURIComponent(text).replaceAll(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
  const query = [...new URLSearchParams(search)]
    .map((pair) => pair.map(encode).join('='))
    .sort()
    .join('&')
  const canonical = [
    method,
    encode(decodeURIComponent(path as string)).replaceAll('%2F', '/'),
    query,
    ...names.split(';').map((name) => `${name}:${headers[name]}`),
    '',
    names,
    headers['x-amz-content-sha256'],
  ].join('\n')
  const toSign = ['AWS4-HMAC-SHA256', headers['x-amz-date'], scope, sha256(canonical)].join('\n')
  const key = scope
    .split('/')
    .reduce<Buffer | string>((key, part) => hmac(key, part), `AWS4${credentials.secretAccessKey}`)
  return hmac(key, toSign).toString('hex') === signature ? undefined : 'SignatureDoesNotMatch'
}

const sha256 = (data: string | Buffer) => createHash('sha256').update(data).digest('hex')
const md5 = (data: Buffer) => createHash('md5').update(data).digest('hex')
const hmac = (key: Buffer | string, data: string) => createHmac('sha256', key).update(data).digest()
