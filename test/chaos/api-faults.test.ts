import { API_FAULTS } from '../../scripts/durability/faults/api.ts'
import { DISK_FAULTS } from '../../scripts/durability/faults/disk.ts'
import { keepsPromises } from '../helpers/durability.ts'

// A disk of its own takes a machine that lets us mount one: npm run durability.
await keepsPromises([...API_FAULTS, ...DISK_FAULTS.filter(({ open }) => open === undefined)])
