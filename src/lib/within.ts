/** Waits for the promise, but not longer. @throws an error with `message` when the time is over */
export async function within<T>(
  milliseconds: number,
  promise: Promise<T>,
  message = `timed out after ${milliseconds} ms`,
): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new Error(message)), milliseconds)
  return Promise.race([promise, late.promise]).finally(() => clearTimeout(timer))
}
