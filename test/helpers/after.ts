// tap runs this after the test files: stops the server, unless another run of the tests is using it.
import { openTestServer } from './postgres.ts'

const server = await openTestServer()
await server.release()
