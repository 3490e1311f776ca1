/** PostgreSQL was reached, but Sluice cannot work with it, and waiting does not change that. */
export class UnsupportedServerError extends Error {
  override name = 'UnsupportedServerError'
}

const OLDEST = 18

/**
 * @param version the parameter server_version, such as "15.18 (Debian 15.18-0+deb12u1)" or "19devel"; empty if it is unknown
 * @param address of the server, for the message
 * @param setting the name of the setting with the URL, for the message
 * @throws UnsupportedServerError
 */
export function requireVersion(version: string, address: string, setting: string): void {
  if (!(Number.parseInt(version, 10) < OLDEST)) return
  throw new UnsupportedServerError(
    `PostgreSQL at ${address} has version ${version.split(' ')[0]}, but Sluice needs version ${OLDEST} or later. Upgrade it, or set ${setting} to another server`,
  )
}
