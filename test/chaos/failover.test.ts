import { FAILOVER_FAULTS } from '../../scripts/durability/faults/failover.ts'
import { openWithStandby } from '../../scripts/durability/standby.ts'
import { testFaults } from '../helpers/durability.ts'

await testFaults(FAILOVER_FAULTS, openWithStandby)
