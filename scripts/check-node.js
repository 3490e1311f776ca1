// Imported before a script. JavaScript, so that an old Node.js can say what is wrong: it cannot load TypeScript.
const [major, minor] = process.versions.node.split('.').map(Number)
if (!(major > 24 || (major === 24 && minor >= 12))) {
  console.error(
    `Sluice needs Node.js 24.12 or later, but this is Node.js ${process.versions.node}. "npm ci" installs it, unless development dependencies are omitted.`,
  )
  process.exit(1)
}
