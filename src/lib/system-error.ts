/** What to do about a failed call of the operating system on a file, by the code of Node.js. */
const ADVICE: Record<string, string> = {
  EACCES:
    'This user may not access it: see its owner and mode with ls -ld, and change them, or run the command as another user',
  EPERM: 'This user may not do that: run the command as the owner of the file',
  ENOENT: 'There is no such file or folder: correct the path, or create the folder',
  ENOTDIR: 'A part of the path is a file, not a folder: correct the path',
  EEXIST: 'It exists already: remove it, or choose another name',
  ENOTEMPTY: 'The folder is not empty: empty it, or choose another one',
  EROFS: 'The file system is read-only: choose another folder',
  EXDEV: 'The two folders are on different file systems: choose a folder on the same one',
  ENAMETOOLONG: 'The path is too long: choose a shorter one',
}

/** The same for failures whose errors may have no path. */
const WITHOUT_PATH: Record<string, string> = {
  EISDIR: 'It is a folder: specify a file',
  ENOSPC: 'The disk is full: free some space, or choose a folder on another disk',
  EDQUOT: 'The quota of this user is used up: free some space',
  EFBIG: 'The file is larger than the file system or the limit (ulimit -f) allows',
  EIO: 'The disk or the network file system has failed: see the log of the operating system',
  EMFILE: 'This process may not open more files: raise the limit (ulimit -n)',
  ENFILE: 'The operating system may not open more files: raise its limit (sysctl fs.file-max)',
  ENOMEM: 'There is no memory left: stop other programs, or raise the limit of this one',
}

/** What to do about an error of the operating system, as a sentence without a full stop; undefined if it is another one, or not clear. */
export function systemAdvice({ code = '', path }: NodeJS.ErrnoException): string | undefined {
  return WITHOUT_PATH[code] ?? (path === undefined ? undefined : ADVICE[code])
}
