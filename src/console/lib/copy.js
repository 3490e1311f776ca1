/**
 * Copies a text, and says so. Browsers offer the clipboard only over https, and over http from this machine.
 * @param {string} text
 */
export async function copy(text) {
  try {
    await (navigator.clipboard === undefined ? copySelected(text) : navigator.clipboard.writeText(text))
    say('Copied.')
  } catch {
    say('The browser did not allow it. Select the text and copy it.')
  }
}

/** @param {string} text */
function copySelected(text) {
  const focused = document.activeElement
  const area = Object.assign(document.createElement('textarea'), { value: text })
  document.body.append(area)
  area.select()
  const isCopied = document.execCommand('copy')
  area.remove()
  if (focused instanceof HTMLElement) focused.focus()
  if (!isCopied) throw new Error('not copied')
}

/** For how long a message is shown. */
const SHOWN_MS = 4_000
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer

/** Shows a message at the edge of the window, which a screen reader reads. @param {string} text */
function say(text) {
  const place = document.querySelector('#said')
  if (place === null) return
  clearTimeout(timer)
  place.textContent = text
  timer = setTimeout(() => place.replaceChildren(), SHOWN_MS)
}

/**
 * A command for a shell that sends a request. The key is in a variable, so that it does not end up in the history of the shell.
 * @param {string} url
 */
export const curl = (url) => `curl -sS '${url.replaceAll("'", '%27')}' -H "Authorization: Bearer $SLUICE_KEY"`
