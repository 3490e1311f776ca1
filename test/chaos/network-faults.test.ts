import { NETWORK_FAULTS } from '../../scripts/durability/faults/network.ts'
import { testFaults } from '../helpers/durability.ts'

await testFaults(NETWORK_FAULTS)
