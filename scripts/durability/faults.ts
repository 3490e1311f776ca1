import type { Fault } from './fault.ts'
import { API_FAULTS } from './faults/api.ts'
import { DISK_FAULTS } from './faults/disk.ts'
import { FAILOVER_FAULTS } from './faults/failover.ts'
import { NETWORK_FAULTS } from './faults/network.ts'
import { POSTGRES_FAULTS } from './faults/postgres.ts'

/** In the order in which they run. */
export const FAULTS: Fault[] = [
  ...POSTGRES_FAULTS,
  ...FAILOVER_FAULTS,
  ...NETWORK_FAULTS,
  ...DISK_FAULTS,
  ...API_FAULTS,
]
