import { FAILOVER_FAULTS } from '../../scripts/durability/faults/failover.ts'
import { openWithStandby } from '../../scripts/durability/standby.ts'
import { keepsPromises } from '../helpers/durability.ts'

await keepsPromises(FAILOVER_FAULTS, openWithStandby)
