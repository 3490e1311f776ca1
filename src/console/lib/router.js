/**
 * The page and its parameters are in the fragment of the URL, which browsers do not send: `#/records?source=shop`. So a link can be
 * shared, and the back button works.
 * @returns {{ page: string, params: Record<string, string> }}
 */
export function readRoute() {
  const [page = '', query = ''] = location.hash.replace(/^#\/?/, '').split('?')
  return { page, params: Object.fromEntries(new URLSearchParams(query)) }
}

/**
 * @param {string} page
 * @param {Record<string, string | undefined>} [params] empty values are left out
 */
export function linkTo(page, params = {}) {
  const given = Object.entries(params).filter(([, value]) => value !== undefined && value !== '')
  const query = new URLSearchParams(/** @type {[string, string][]} */ (given)).toString()
  return `#/${page}${query === '' ? '' : `?${query}`}`
}
