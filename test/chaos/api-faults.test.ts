import { API_FAULTS } from '../../scripts/durability/faults/api.ts'
import { DISK_FAULTS } from '../../scripts/durability/faults/disk.ts'
import { testFaults } from '../helpers/durability.ts'

// The other disk faults need a separate disk, which not every machine allows to mount. `npm run durability` has them.
await testFaults([...API_FAULTS, ...DISK_FAULTS.filter(({ open }) => open === undefined)])
