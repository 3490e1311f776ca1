/** The API key, kept for this tab only: it is in no URL, no cookie and no file. */
const NAME = 'sluice-key'

export const readKey = () => sessionStorage.getItem(NAME)

/** @param {string} token */
export const keepKey = (token) => sessionStorage.setItem(NAME, token)

export const forgetKey = () => sessionStorage.removeItem(NAME)
