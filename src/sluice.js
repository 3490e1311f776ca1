#!/usr/bin/env node
// JavaScript, so that an old Node.js can run it and say what is wrong: it cannot load the TypeScript of the rest.
const [major, minor] = process.versions.node.split('.').map(Number)
if (major > 24 || (major === 24 && minor >= 12)) await import('./main.ts')
else {
  console.error(
    `sluice: Sluice needs Node.js 24.12 or later, but this is Node.js ${process.versions.node}. "npm ci" installs it, and "npm start" and "npx sluice" use it.`,
  )
  process.exitCode = 1
}
