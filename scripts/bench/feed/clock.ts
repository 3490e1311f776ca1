/** In milliseconds. Unlike performance.now(), it is the same clock in all processes of the machine. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6
