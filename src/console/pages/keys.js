import { keyEvents, readJson, send } from '../lib/api.js'
import { copy } from '../lib/copy.js'
import { number } from '../lib/format.js'
import { level } from '../lib/level.js'
import { failure, Resource } from '../lib/resource.js'
import { time } from '../lib/times.js'
import { html, nothing } from '../lit-html/lit-html.js'

const SCOPES = { ingest: 'store records', read: 'read everything it may see', admin: 'manage keys' }
const STATES = /** @type {const} */ ({ active: 'ok', expired: 'warning', revoked: 'unknown' })

const EVERY_MS = 5_000

/** @typedef {import('../lib/api.js').Documents['keys']['keys'][0]} Key */
/** @typedef {{ name: string, token: string }} Created */

/** @type {Created[]} keys that were created and perhaps not stored yet. Another page may be opened meanwhile. */
let created = []
keyEvents.addEventListener('forgotten', () => {
  created = []
})
// The browser asks before it closes the tab.
addEventListener('beforeunload', (event) => {
  if (created.length > 0) event.preventDefault()
})

/**
 * The keys: list, create, revoke.
 * @type {(context: import('../app.js').Context) => import('../app.js').Page}
 */
export function open({ redraw }) {
  const list = new Resource((signal) => readJson('keys', { signal }), redraw, EVERY_MS)
  /** @type {Error | undefined} */
  let error
  /** @type {Key | undefined} the key that is to be revoked, if that is confirmed */
  let revoking
  let isSending = false

  /** @param {() => Promise<void>} change */
  async function run(change) {
    if (isSending) return
    isSending = true
    error = undefined
    try {
      await change()
    } catch (found) {
      error = /** @type {Error} */ (found)
    }
    isSending = false
    // Also after an error: without a response, nobody knows whether the change was made.
    await list.refresh()
    redraw()
  }

  /** @param {SubmitEvent} event */
  function create(event) {
    event.preventDefault()
    const form = /** @type {HTMLFormElement} */ (event.target)
    void run(async () => {
      const body = requestOf(new FormData(form))
      created.push(await (await send('keys', { method: 'POST', body })).json())
      form.reset()
      redraw()
      const notices = document.querySelectorAll('.token')
      const last = /** @type {HTMLElement | undefined} */ ([...notices].at(-1))
      last?.focus()
    })
  }

  const revoke = () =>
    run(async () => {
      const id = revoking?.id ?? ''
      document.querySelector('dialog')?.close()
      await send(`keys/${encodeURIComponent(id)}`, { method: 'DELETE' })
    })

  return {
    close: () => list.close(),
    view: () => html`
      ${error === undefined ? nothing : failure(error)}
      ${created.map(token)}
      ${list.view(({ keys }, isOld) => html`${table(keys, isOld)}${form()}`)}
      ${revoking === undefined ? nothing : confirm(revoking)}
    `,
  }

  /** @param {Created} key */
  function token(key) {
    const { name, token } = key
    const done = () => {
      created = created.filter((other) => other !== key)
      redraw()
    }
    return html`
      <section class="notice ok" role="alert">
        <h2>The key ${name}</h2>
        <p>Store it now: it is not shown again.</p>
        <p><code class="token" tabindex="-1">${token}</code></p>
        <p class="buttons">
          <button type="button" @click=${() => copy(token)}>Copy</button>
          <button type="button" @click=${done}>I have stored it</button>
        </p>
      </section>
    `
  }

  /**
   * @param {Key[]} keys
   * @param {boolean} isOld whether the last read has failed
   */
  function table(keys, isOld) {
    return html`
      <div class="scroll" tabindex="0" role="region" aria-label="Keys">
        <table>
          <thead>
            <tr>
              <th scope="col">Name</th><th scope="col">Id</th><th scope="col">State</th><th scope="col">Scopes</th><th scope="col">Sources</th>
              <th scope="col" class="number">Records per second</th><th scope="col">Created</th><th scope="col">Expires</th><td></td>
            </tr>
          </thead>
          <tbody>
            ${keys.map(
              (key) => html`
                <tr>
                  <th scope="row">${key.name}</th>
                  <td><code>${key.id}</code></td>
                  <td>${isOld ? level('unknown') : level(STATES[key.state], key.state)}</td>
                  <td>${key.scopes.join(', ')}</td>
                  <td>${key.sourcePrefixes.length === 0 ? 'all' : key.sourcePrefixes.join(', ')}</td>
                  <td class="number">${key.recordsPerSecond === null ? 'default' : number(key.recordsPerSecond)}</td>
                  <td>${time(key.createdAt)}</td>
                  <td>${time(key.expiresAt)}</td>
                  <td>${key.state === 'revoked' ? nothing : html`<button type="button" aria-label=${`Revoke ${key.name} ${key.id}`} @click=${() => ask(key)}>Revoke</button>`}</td>
                </tr>
              `,
            )}
          </tbody>
        </table>
      </div>
    `
  }

  function form() {
    return html`
      <h2>Create a key</h2>
      <form class="create" @submit=${create}>
        <label>Name<input name="name" required maxlength="256" autocomplete="off" /></label>
        <fieldset>
          <legend>Scopes</legend>
          ${Object.entries(SCOPES).map(
            ([scope, meaning]) =>
              html`<label><input type="checkbox" name="scopes" value=${scope} /> <code>${scope}</code>: ${meaning}</label>`,
          )}
        </fieldset>
        <label>
          Source prefixes, one per line
          <textarea name="sourcePrefixes" rows="2" placeholder="Empty: all sources" spellcheck="false"></textarea>
        </label>
        <label>Records per second<input name="recordsPerSecond" type="number" min="1" max="1000000" placeholder="Default of the server" /></label>
        <label>Expires after days<input name="days" type="number" min="1" max="36500" placeholder="Never" /></label>
        <button type="submit" class="main" ?disabled=${isSending}>Create</button>
      </form>
    `
  }

  /** @param {Key} key */
  function ask(key) {
    revoking = key
    redraw()
    const dialog = /** @type {HTMLDialogElement | null} */ (document.querySelector('dialog'))
    dialog?.showModal()
  }

  /** @param {Key} key */
  function confirm({ name, id }) {
    const closed = () => {
      revoking = undefined
      redraw()
    }
    // When a dialog is closed, the browser gives the focus back to the button that opened it.
    const close = () => document.querySelector('dialog')?.close()
    return html`
      <dialog aria-labelledby="revoke" @close=${closed}>
        <h2 id="revoke">Revoke ${name}?</h2>
        <p>All instances refuse the key <code>${id}</code> within two seconds. This cannot be undone.</p>
        <p class="buttons">
          <button type="button" class="main" @click=${revoke}>Revoke</button>
          <button type="button" @click=${close}>Keep it</button>
        </p>
      </dialog>
    `
  }
}

/** @param {FormData} data */
function requestOf(data) {
  const text = (/** @type {string} */ name) => String(data.get(name) ?? '').trim()
  const lines = text('sourcePrefixes').split('\n')
  const [records, days] = [text('recordsPerSecond'), text('days')]
  return {
    name: text('name'),
    scopes: data.getAll('scopes'),
    sourcePrefixes: lines.map((line) => line.trim()).filter((line) => line !== ''),
    recordsPerSecond: records === '' ? null : Number(records),
    expiresAt: days === '' ? null : new Date(Date.now() + Number(days) * 86_400_000).toISOString(),
  }
}
