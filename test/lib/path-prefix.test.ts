import t from 'tap'
import { publicPath, removePrefix } from '../../src/lib/path-prefix.ts'

t.test('the prefix is removed from targets below it, and only from those', async (t) => {
  const targets: [target: string, rest: string][] = [
    ['/ingest/v1/records?limit=1', '/v1/records?limit=1'],
    ['/ingest/', '/'],
    ['/ingest', '/'],
    ['/ingest?x=/ingest', '/?x=/ingest'],
    ['/ingest/v1/records/%2Fingest%2Fa/1', '/v1/records/%2Fingest%2Fa/1'],
    ['/ingest/ingest/', '/ingest/'],
    ['/ingestion/v1', '/ingestion/v1'],
    ['/v1/records', '/v1/records'],
    ['/Ingest/v1', '/Ingest/v1'],
    ['*', '*'],
  ]
  for (const [target, rest] of targets) t.equal(removePrefix('/ingest', target), rest, target)
})

t.test('the path of a request has the prefix once, whether or not the proxy has removed it', async (t) => {
  const targets: [target: string, path: string][] = [
    ['/ingest/v1/records?limit=1', '/ingest/v1/records'],
    ['/v1/records?x=/ingest', '/ingest/v1/records'],
    ['/ingest', '/ingest'],
    ['/ingest?x', '/ingest'],
    ['/', '/ingest/'],
    ['/ingest;x', '/ingest;x'],
    ['/ingestion', '/ingestion'],
    ['/%69nge%73t/v1/%zz', '/%69nge%73t/v1/%zz'],
    ['/%zz', '/ingest/%zz'],
    ['*', '*'],
  ]
  for (const [target, path] of targets) {
    t.equal(publicPath('/ingest', target), path, target)
    t.equal(publicPath(undefined, target), target.replace(/\?.*/, ''), target)
  }
})
