import { keyEvents } from './lib/api.js'
import { forgetKey, keepKey, readKey } from './lib/key.js'
import { failure } from './lib/resource.js'
import { linkTo, readRoute } from './lib/router.js'
import { isUtc, useUtc, zoneName } from './lib/times.js'
import { html, nothing, render } from './lit-html/lit-html.js'

/**
 * A page that is open. It reads from the API until it is closed.
 * @typedef {object} Page
 * @property {() => unknown} view
 * @property {() => void} close
 */

/**
 * What a page gets.
 * @typedef {object} Context
 * @property {Record<string, string>} params from the URL
 * @property {() => void} redraw renders the view again
 */

/**
 * @typedef {object} Entry
 * @property {string} title
 * @property {() => Promise<{ open: (context: Context) => Page }>} load
 * @property {string} [under] the page in the menu that it belongs to, if it has no entry of its own
 */

/** @type {Record<string, Entry>} */
const PAGES = {
  overview: { title: 'Overview', load: () => import('./pages/overview.js') },
  records: { title: 'Records', load: () => import('./pages/records.js') },
  record: { title: 'Record', load: () => import('./pages/record.js'), under: 'records' },
  live: { title: 'Live', load: () => import('./pages/live.js') },
  types: { title: 'Types and sources', load: () => import('./pages/types.js') },
  consumers: { title: 'Consumers', load: () => import('./pages/consumers.js') },
  keys: { title: 'Keys', load: () => import('./pages/keys.js') },
}

/** @type {Page | undefined} */
let page
let current = ''
let message = ''

function draw() {
  render(readKey() === null ? keyForm() : frame(), document.body)
}

function closePage() {
  page?.close()
  page = undefined
}

/** Opens the page that the URL names. */
async function navigate() {
  closePage()
  const { page: name, params } = readRoute()
  const found = PAGES[name]
  if (readKey() === null) {
    draw()
    return
  }
  if (found === undefined) {
    location.replace(linkTo('overview'))
    return
  }
  const isNew = name !== current
  current = name
  document.title = `${found.title} – Sluice`
  draw()
  const module = await found.load().catch(() => undefined)
  const now = readRoute()
  // Another page was chosen meanwhile.
  if (now.page !== name || readKey() === null || page !== undefined) return
  page =
    module === undefined
      ? { view: () => failure(new Error('This page could not be loaded. Reload the console.')), close() {} }
      : module.open({ params, redraw: draw })
  draw()
  // A screen reader reads the new page from its heading. What had the focus may be gone.
  if (isNew || document.activeElement === document.body) focusOn('h1')
}

function frame() {
  const entry = PAGES[current]
  return html`
    <header>
      <a class="skip" href="#main" @click=${skip}>Skip to the content</a>
      <a class="name" href=${linkTo('overview')}>Sluice</a>
      <nav aria-label="Pages">
        ${Object.entries(PAGES)
          .filter(([, { under }]) => under === undefined)
          .map(
            ([name, { title }]) =>
              html`<a href=${linkTo(name)} aria-current=${(entry?.under ?? current) === name ? 'page' : 'false'}>${title}</a>`,
          )}
      </nav>
      <button type="button" title="Show times in UTC or in the time zone of this browser" @click=${switchTimes}>Times: ${zoneName()}</button>
      <button type="button" @click=${() => end('')}>Forget the key</button>
    </header>
    <main id="main">
      <h1 tabindex="-1">${entry?.title}</h1>
      ${page === undefined ? html`<p class="loading" role="status">Loading …</p>` : page.view()}
    </main>
    <p id="said" role="status"></p>
  `
}

/** The fragment of the URL is the page, so the link must not change it. @param {Event} event */
function skip(event) {
  event.preventDefault()
  focusOn('h1')
}

/** @param {string} selector */
function focusOn(selector) {
  const found = document.querySelector(selector)
  if (found instanceof HTMLElement) found.focus()
}

function switchTimes() {
  useUtc(!isUtc())
  draw()
}

const keyForm = () => html`
  <main class="key">
    <h1 tabindex="-1">Sluice</h1>
    ${message === '' ? nothing : html`<p class="notice critical" role="alert">${message}</p>`}
    <form @submit=${begin}>
      <label for="key">API key</label>
      <input id="key" type="password" required autocomplete="off" spellcheck="false" />
      <button type="submit" class="main">Open</button>
    </form>
    <p>
      The key needs the scope <code>read</code>, and <code>admin</code> to manage keys. <code>npm start</code> writes one to <code>.sluice/key</code>;
      <code>sluice keys create</code> makes others. It is kept until this tab is closed, and only sent to this server.
    </p>
  </main>
`

/** @param {SubmitEvent} event */
function begin(event) {
  event.preventDefault()
  const input = /** @type {HTMLInputElement} */ (document.querySelector('#key'))
  const key = input.value.trim()
  // No request can carry others (RFC 6750, section 2.1).
  if (!/^[\x21-\x7e]+$/.test(key)) {
    message = 'This is not an API key: it contains characters that no key has. Copy it again.'
    draw()
    return
  }
  keepKey(key)
  message = ''
  current = ''
  void navigate()
}

/** @param {string} why */
function end(why) {
  forgetKey()
  keyEvents.dispatchEvent(new Event('forgotten'))
  closePage()
  message = why
  document.title = 'Sluice'
  draw()
  focusOn('#key')
}

keyEvents.addEventListener('refused', (event) => {
  if (readKey() !== null) end(/** @type {CustomEvent} */ (event).detail)
})
addEventListener('hashchange', () => void navigate())
document.body.replaceChildren()
void navigate()
