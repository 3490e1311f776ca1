/** Whether a promise is fulfilled or rejected within this time. It must be awaited elsewhere as well. */
export async function settlesWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<boolean>()
  const timer = setTimeout(() => resolve(false), ms)
  const settled = () => true
  return Promise.race([promise.then(settled, settled), late]).finally(() => clearTimeout(timer))
}
