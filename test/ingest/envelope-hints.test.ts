import t from 'tap'
import { missingHint, nameHint } from '../../src/ingest/envelope-hints.ts'

t.test('names are compared with those of the attributes, however many names came before', async (t) => {
  for (let n = 0; n < 2500; n++) t.equal(nameHint(`X${n}`), `Write x${n}, or put it into data.`)
  for (let times = 0; times < 2; times++) {
    t.equal(nameHint('Sorce'), 'Did you mean source?')
    t.equal(missingHint('source', { sorce: 's' }), ' The record has "sorce" instead: rename it.')
    t.equal(missingHint('type', { source: 's', event: 't' }), ' The record has "event" instead: rename it.')
    t.equal(nameHint('A'.repeat(50)), 'Put it into data.')
  }
})
