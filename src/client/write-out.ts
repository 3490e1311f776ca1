/** The program that reads stdout has closed it. */
export class ReaderGone extends Error {}

/**
 * Writes to stdout. Resolves when the operating system has taken all of it: a slow reader slows the caller down.
 * @throws ReaderGone; Error with a sentence if it cannot be written
 */
export function writeOut(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (cause) => {
      if (cause == null) resolve()
      else if ((cause as NodeJS.ErrnoException).code === 'EPIPE') reject(new ReaderGone('', { cause }))
      else reject(new Error('stdout cannot be written', { cause }))
    })
  })
}
