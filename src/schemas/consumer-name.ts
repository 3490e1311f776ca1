/** Names need no encoding in a URL. Clients remove `.` and `..` from a path. */
export const CONSUMER_NAME = /^(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}$/

/** The same as the rest of a sentence. */
export const CONSUMER_NAME_RULE =
  'must have 1 to 128 letters (A to Z), digits, ".", "_" and "-", and not be "." or ".."'
