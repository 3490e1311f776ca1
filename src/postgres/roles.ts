import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto'
import { type Kysely, sql } from 'kysely'

/** The roles, and the roles that they are members of. Their privileges in the schema are in db/privileges.sql. */
const roles = {
  sluice_owner: {},
  sluice_api: {},
  sluice_maintenance: {},
  sluice_backup: { memberOf: 'pg_read_all_data' },
  sluice_reader: {},
} as const satisfies Record<string, { memberOf?: string }>

export type RoleName = keyof typeof roles

export const roleNames = Object.keys(roles) as RoleName[]

/** Creates the roles, or corrects their attributes. A role without a password in `passwords` keeps its password. */
export async function ensureRoles<DB>(db: Kysely<DB>, passwords: Partial<Record<RoleName, string>>): Promise<void> {
  await db.transaction().execute(async (trx) => {
    // Otherwise two processes that start at the same time would both try to create a missing role.
    await sql`SELECT pg_advisory_xact_lock(${PROVISIONING})`.execute(trx)
    const { rows } = await sql<{ rolname: string; rolpassword: string | null }>`
      SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY (${roleNames})`.execute(trx)
    const verifiers = new Map(rows.map((row) => [row.rolname, row.rolpassword]))

    for (const name of roleNames) {
      const role = sql.id(name)
      if (!verifiers.has(name)) await sql`CREATE ROLE ${role}`.execute(trx)
      await sql`ALTER ROLE ${role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS`.execute(trx)

      const { memberOf }: { memberOf?: string } = roles[name]
      if (memberOf) await sql`GRANT ${sql.id(memberOf)} TO ${role}`.execute(trx)

      const password = passwords[name]
      if (password !== undefined && !verifies(verifiers.get(name), password)) {
        await sql`ALTER ROLE ${role} PASSWORD ${sql.lit(scramVerifier(password))}`.execute(trx)
      }
    }
  })
}

/** What openEmbedded (db/embedded) needs: creates or corrects the roles, and creates the database `sluice` if it does not exist. */
export async function provision<DB>(db: Kysely<DB>, passwordOf: (role: RoleName) => string): Promise<void> {
  await ensureRoles(db, Object.fromEntries(roleNames.map((role) => [role, passwordOf(role)])))
  await ensureDatabase(db, 'sluice', 'sluice_owner')
}

/**
 * Creates the database unless it exists, and lets only the roles above connect to it. Text sorts by code point on every machine: the
 * locale of an operating system can change with an update, which breaks indexes.
 */
export async function ensureDatabase<DB>(db: Kysely<DB>, name: string, owner: RoleName): Promise<void> {
  await db.connection().execute(async (session) => {
    // A session lock, because CREATE DATABASE cannot run in a transaction.
    await sql`SELECT pg_advisory_lock(${PROVISIONING})`.execute(session)
    try {
      const { rows } = await sql`SELECT FROM pg_database WHERE datname = ${name}`.execute(session)
      if (rows.length === 0) {
        await sql`
          CREATE DATABASE ${sql.id(name)} OWNER ${sql.id(owner)} TEMPLATE template0
            ENCODING 'UTF8' LOCALE_PROVIDER libc LOCALE 'C'`.execute(session)
      }
      await sql`ALTER DATABASE ${sql.id(name)} OWNER TO ${sql.id(owner)}`.execute(session)
      await sql`REVOKE ALL ON DATABASE ${sql.id(name)} FROM PUBLIC`.execute(session)
      await sql`GRANT CONNECT ON DATABASE ${sql.id(name)} TO ${sql.join(roleNames.map((role) => sql.id(role)))}`.execute(
        session,
      )
    } finally {
      await sql`SELECT pg_advisory_unlock(${PROVISIONING})`.execute(session)
    }
  })
}

const PROVISIONING = 7_582_002

// What PostgreSQL stores instead of a password. It is computed here, so that the password itself is in no statement and thus in
// no server log. RFC 5803; https://www.postgresql.org/docs/18/catalog-pg-authid.html
function scramVerifier(password: string, salt = randomBytes(16), iterations = 4096): string {
  // Other passwords would first need the preparation of RFC 4013. Generated passwords are plain ASCII.
  if (!/^[\x21-\x7e]+$/.test(password)) throw new Error('A password must consist of visible ASCII characters.')

  const salted = pbkdf2Sync(password, salt, iterations, 32, 'sha256')
  const keyFor = (use: string) => createHmac('sha256', salted).update(use).digest()
  const storedKey = createHash('sha256').update(keyFor('Client Key')).digest('base64')
  const serverKey = keyFor('Server Key').toString('base64')
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${storedKey}:${serverKey}`
}

function verifies(verifier: string | null | undefined, password: string): boolean {
  const parts = /^SCRAM-SHA-256\$(\d+):([^$]+)\$/.exec(verifier ?? '')
  if (!verifier || !parts?.[2]) return false
  return scramVerifier(password, Buffer.from(parts[2], 'base64'), Number(parts[1])) === verifier
}
