import t from 'tap'
import { checkReachable } from '../../src/client/server.ts'

t.test('if no server responds, the advice is for a server on this machine or on another one', async (t) => {
  // fetch refuses port 1 before it looks for the host.
  for (const [host, advice] of [
    ['127.0.0.1', /Run npm start in another terminal, or specify/],
    ['localhost', /Run npm start/],
    ['[::1]', /Run npm start/],
    ['sluice.example.com', /\. Start it, or specify another server with --url$/],
    ['localhost.example.com', /\. Start it/],
  ] as const)
    await t.rejects(checkReachable(`http://${host}:1`), { message: advice }, host)
})
