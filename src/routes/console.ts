import { readdir } from 'node:fs/promises'
import { findPackageJSON } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { FastifyPluginAsync } from 'fastify'
import Negotiator from 'negotiator'
import { isStaticFile, readStaticFile, type StaticFile } from '../lib/static-files.ts'
import { isCached } from './feed-headers.ts'

const OWN = fileURLToPath(new URL('../console/', import.meta.url))

/** Files of packages, which the console imports. They have the same paths as in node_modules, so that TypeScript finds their types. */
const VENDORED = ['lit-html/lit-html.js', 'uplot/dist/uPlot.esm.js', 'uplot/dist/uPlot.min.css']

/** Nothing from elsewhere, and nothing inline. lit-html makes its templates through a policy with this name. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  'trusted-types lit-html',
].join('; ')

const HEADERS = {
  'content-security-policy': CONTENT_SECURITY_POLICY,
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  // Asked for again each time, and answered with 304, so that the files of one version are used together.
  'cache-control': 'no-cache',
  vary: 'accept-encoding',
}

/** /console/: the web page, without a key. It asks for one, and uses the public API with it. */
const routes: FastifyPluginAsync = async (app) => {
  const config = { quiet: true }
  const schema = { hide: true }
  let files: Promise<Map<string, StaticFile>> | undefined

  // Relative: behind a proxy, the service may have a prefix that it does not know.
  const address = app.pathPrefix ? `${app.pathPrefix}/console/` : 'console/'
  app.get('/console', { config, schema }, (_request, reply) => reply.redirect(address))
  app.get<{ Params: { '*': string } }>('/console/*', { config, schema }, async (request, reply) => {
    files ??= readFiles().catch((error) => {
      files = undefined
      throw error
    })
    const file = (await files).get(request.params['*'] || 'index.html')
    if (file === undefined) return reply.callNotFound()
    reply.headers(HEADERS).type(file.type)
    if (isCached(request, reply, file.tag)) return reply.code(304).send()
    const isGzipped = new Negotiator(request).encoding(['gzip', 'identity']) === 'gzip'
    return isGzipped ? reply.header('content-encoding', 'gzip').send(file.gzipped) : reply.send(file.plain)
  })
}

/** What is served: no other path exists. They are read at the first request. */
async function readFiles(): Promise<Map<string, StaticFile>> {
  const own = (await readdir(OWN, { recursive: true })).filter(isStaticFile)
  const paths = [
    ...own.map((name) => [name, join(OWN, name)] as const),
    ...VENDORED.map((name) => [name, pathOf(name)] as const),
  ]
  return new Map(await Promise.all(paths.map(async ([name, path]) => [name, await readStaticFile(path)] as const)))
}

/** @param name begins with the name of a package */
function pathOf(name: string): string {
  const folder = dirname(findPackageJSON(name.split('/')[0] as string, import.meta.url) as string)
  return join(folder, '..', name)
}

export default routes
