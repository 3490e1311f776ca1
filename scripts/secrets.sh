#!/usr/bin/env bash
# The Secrets of the cluster: encrypted in git, decrypted only while deploying. See k8s/overlays/README.md.
#
#   scripts/secrets.sh init [OVERLAY]          create the overlay's encrypted Secrets, and an age key if there is none
#   scripts/secrets.sh edit [OVERLAY]          edit the Secrets in $EDITOR
#   scripts/secrets.sh rotate OVERLAY NAME...  set new values: postgres owner api maintenance backup reader first-key, or all
#   scripts/secrets.sh rotate age-key          create a new age key, and encrypt every file for it
#   scripts/secrets.sh check [--staged]        fail if a Secret manifest has readable values
#   scripts/secrets.sh hook                    make git run this check before every commit
#
# Values go through pipes only, never to a file or into an argument, which ps would show. So this script does not use
# `sops set`, or here-documents, which bash may store in a file.
set -euo pipefail
cd "$(dirname "$0")/.."

case $(uname) in
  Darwin) config="$HOME/Library/Application Support" ;;
  *) config=${XDG_CONFIG_HOME:-$HOME/.config} ;;
esac
# The default of SOPS.
export SOPS_AGE_KEY_FILE=${SOPS_AGE_KEY_FILE:-$config/sops/age/keys.txt}

main() {
  case ${1:-} in
    init) init "${2:-k3s}" ;;
    edit) edit "${2:-k3s}" ;;
    rotate)
      case ${2:-} in
        '') usage ;;
        age-key) rotate_age_key ;;
        *) rotate "${@:2}" ;;
      esac
      ;;
    check) check "${2:-}" ;;
    hook) install_hook ;;
    *) usage ;;
  esac
}

init() {
  local file
  file=$(secrets_of "$1")
  need sops age-keygen
  if is_encrypted "$file"; then die "$file is encrypted already. Use edit or rotate"; fi
  ensure_key
  ensure_recipient
  # shellcheck disable=SC2094 # encrypt writes to another file and renames it at the end.
  fill <"$file" | encrypt "$file"
  say "Encrypted $file for $(recipients). Commit it, and keep a copy of $SOPS_AGE_KEY_FILE in a safe place."
  local empty
  empty=$(sed -nE 's/^ +([A-Z_]+):( ""| null)?$/\1/p' "$file" | tr '\n' ' ')
  if [ -n "$empty" ]; then say "These still need a value: ${empty}— run scripts/secrets.sh edit $1"; fi
}

edit() {
  local file
  file=$(encrypted_secrets_of "$1")
  need sops
  # SOPS gives the editor a file. Keep it in memory if the system can.
  if [ -d /dev/shm ]; then export TMPDIR=/dev/shm; fi
  sops edit "$file"
}

rotate() {
  local file names
  file=$(encrypted_secrets_of "$1")
  names=${*:2}
  need sops
  if [ "$names" = all ]; then names='postgres owner api maintenance backup reader first-key'; fi
  if [ -z "$names" ]; then usage; fi
  for name in $names; do
    grep -q "^ *name: sluice-$name\$" "$file" || die "there is no Secret sluice-$name in $file"
  done
  sops decrypt "$file" | fill "$names" | encrypt "$file"
  say "New values in $file: $names. Deploy them with scripts/deploy.sh $1."
}

rotate_age_key() {
  need sops age-keygen
  [ -f "$SOPS_AGE_KEY_FILE" ] || die "there is no age key in $SOPS_AGE_KEY_FILE. Set SOPS_AGE_KEY_FILE to the file that has it"
  local old new list
  old=$(age-keygen -y "$SOPS_AGE_KEY_FILE")
  # The old key stays in the file: older commits can be decrypted only with it.
  (umask 077 && age-keygen 2>/dev/null >>"$SOPS_AGE_KEY_FILE")
  new=$(age-keygen -y "$SOPS_AGE_KEY_FILE" | tail -n 1)
  list=$(recipients | tr ',' '\n' | grep -vxF "$old" | tr '\n' ',' || true)
  write_recipients "$list$new"
  local file
  while read -r file; do
    is_encrypted "$file" || continue
    sops updatekeys --yes "$file"
    # A new data key too: someone with the old age key may know the old data key.
    sops rotate --in-place "$file"
  done < <(git ls-files --cached --others --exclude-standard 'k8s/*.sops.yaml')
  say "Encrypted for $new. If somebody else had the old key, they could read the values: rotate these too."
}

# Copies the Secrets from stdin to stdout. Fills in missing values, and replaces those of the given names.
# https://kubernetes.io/docs/concepts/configuration/secret/#basic-authentication-secret: `username` and `password`.
fill() {
  awk -v renew=" ${1:-} " '
    # `password` runs a shell command. The value is in its output, not in its arguments.
    function password(  command, value) {
      command = "head -c 32 /dev/urandom | base64 | tr +/ -_ | tr -d \"=\\n\""
      command | getline value; close(command)
      return value
    }
    function id(  command, value) {
      command = "od -An -N6 -tx1 /dev/urandom | tr -d \" \\n\""
      command | getline value; close(command)
      return value
    }
    function make(key) {
      if (key == "POSTGRES_USER") return "postgres"
      if (key == "POSTGRES_DB") return "sluice"
      if (key == "username") { sub(/^sluice-/, "sluice_", name); return name }
      if (key == "SLUICE_BOOTSTRAP_KEY") return "sluice_" id() "_" password()
      if (key == "password" || key == "POSTGRES_PASSWORD") return password()
      return ""
    }
    /^#/ { next }
    /^[^ ]/ { part = $1 }
    /^---/ { name = "" }
    part == "sops:" { next }
    part == "metadata:" && $1 == "name:" { name = $2 }
    part == "stringData:" && /^ +[A-Za-z_]+:/ {
      key = $1; sub(/:$/, "", key)
      short = name; sub(/^sluice[-_]/, "", short)
      secret = key == "password" || key == "POSTGRES_PASSWORD" || key == "SLUICE_BOOTSTRAP_KEY"
      if (NF == 1 || $2 == "\"\"" || $2 == "null" || (secret && index(renew, " " short " "))) {
        value = make(key)
        # Quoted, because YAML would read some values as numbers.
        print substr($0, 1, index($0, ":")) " \"" value "\""
        next
      }
    }
    { print }'
}

# Encrypts stdin to the file. The file is never incomplete, and never contains plain text.
encrypt() {
  if sops encrypt --filename-override "$1" --input-type yaml --output-type yaml /dev/stdin >"$1.new"; then
    mv "$1.new" "$1"
  else
    rm -f "$1.new"
    die "$1 could not be encrypted and is unchanged"
  fi
}

check() {
  local file bad=0
  while IFS= read -r -d '' file; do
    # The staged content, which may differ from the file.
    if [ "$1" = --staged ]; then git show ":$file"; elif [ -f "$file" ]; then cat "$file"; fi | plain_values "$file" || bad=1
  done < <(manifests "$1")
  if [ "$bad" = 1 ]; then die 'a Secret is readable. Encrypt it with scripts/secrets.sh, and change every value that was pushed'; fi
}

manifests() {
  if [ "$1" = --staged ]; then
    git diff --cached --name-only --diff-filter=d -z -- '*.yaml' '*.yml' '*.json'
  elif git rev-parse --git-dir >/dev/null 2>&1; then
    git ls-files --cached --others --exclude-standard --deduplicate -z -- '*.yaml' '*.yml' '*.json'
  else
    find . -name node_modules -prune -o -type f '(' -name '*.yaml' -o -name '*.yml' -o -name '*.json' ')' -print0
  fi
}

# Prints the lines of Secrets in a YAML or JSON text whose value is neither empty nor encrypted, and fails if there are any.
# Syntax that it does not understand (anchors, flow style) counts as readable.
plain_values() {
  awk -v file="$1" '
    function complain(number, what) { printf "%s:%d: %s\n", file, number, what; bad = 1 }
    function value_of(text) {
      sub(/[ ]+#.*$/, "", text); sub(/^[ ]+/, "", text); sub(/[ ,]+$/, "", text)
      if (text ~ /^".*"$/ || text ~ /^\047.*\047$/) text = substr(text, 2, length(text) - 2)
      return text
    }
    function judge(value, number, key) {
      if (value == "" || value == "null" || value == "~") return
      if (value !~ /^ENC\[AES256_GCM,data:[^]]*\]$/) complain(number, key " of a Secret is not encrypted")
      else encrypted = number
    }
    function finish(  i, text, indent, inside, column, key) {
      if (secret) for (i = 1; i <= count; i++) {
        text = line[i]
        if (text ~ /^[ ]*(#|$)/) continue
        match(text, /^[ -]*/); indent = RLENGTH
        if (inside && (indent <= column || text ~ /^[ ]*}/)) inside = 0
        if (inside) {
          if (match(text, /^[ ]*["\047]?[^"\047: ]+["\047]?[ ]*:([ ]|$)/)) {
            key = value_of(substr(text, 1, RLENGTH)); sub(/:$/, "", key)
            judge(value_of(substr(text, RLENGTH + 1)), first + i, key)
          } else complain(first + i, "a value of a Secret is not encrypted")
        } else if (match(text, /^[ -]*["\047]?(data|stringData)["\047]?[ ]*:/)) {
          rest = value_of(substr(text, RLENGTH + 1))
          if (rest == "" || rest == "{") { inside = 1; column = indent }
          else if (rest != "{}" && rest != "null") complain(first + i, "data of a Secret is not encrypted")
        } else if (text ~ /["\047{, ](data|stringData)["\047]?[ ]*:[ ]*[{"]/) {
          complain(first + i, "data of a Secret is on one line and cannot be checked")
        }
      }
      if (encrypted && !sops) complain(encrypted, "a Secret has encrypted values, but no sops: section to decrypt them with")
      first += count; count = 0; secret = 0; sops = 0; encrypted = 0
    }
    { sub(/\r$/, "") }
    /^---/ { finish(); first++; next }
    { line[++count] = $0 }
    /["\047]?kind["\047]?[ ]*:[ ]*["\047]?Secret["\047]?([ ,}#]|$)/ { secret = 1 }
    /^[ ]*["\047]?sops["\047]?[ ]*:/ { sops = 1 }
    /^[ -]*secretGenerator[ ]*:/ { complain(NR, "secretGenerator creates a Secret from plain values") }
    END { finish(); exit bad }'
}

install_hook() {
  local hook
  hook=$(git rev-parse --git-path hooks)/pre-commit
  if [ -e "$hook" ] && ! grep -q 'scripts/secrets.sh check' "$hook"; then
    die "$hook exists already; add this line to it: scripts/secrets.sh check --staged"
  fi
  mkdir -p "$(dirname "$hook")"
  printf '#!/bin/sh\nexec scripts/secrets.sh check --staged\n' >"$hook"
  chmod +x "$hook"
  say "git now runs the check before every commit, from $hook"
}

ensure_key() {
  if [ ! -f "$SOPS_AGE_KEY_FILE" ]; then
    (umask 077 && mkdir -p "$(dirname "$SOPS_AGE_KEY_FILE")")
    refuse_inside_repository
    (umask 077 && age-keygen -o "$SOPS_AGE_KEY_FILE" 2>/dev/null)
    say "created an age key: $SOPS_AGE_KEY_FILE"
  fi
  refuse_inside_repository
  chmod 600 "$SOPS_AGE_KEY_FILE"
}

refuse_inside_repository() {
  case $(cd "$(dirname "$SOPS_AGE_KEY_FILE")" && pwd -P)/ in
    "$(pwd -P)"/*) die "the age key would be inside the repository: $SOPS_AGE_KEY_FILE" ;;
  esac
}

ensure_recipient() {
  local own
  own=$(age-keygen -y "$SOPS_AGE_KEY_FILE" | tail -n 1)
  if [ -z "$(recipients)" ]; then write_recipients "$own"; fi
  recipients | tr ',' '\n' | grep -qxF "$own" ||
    die "your key $own is not a recipient in .sops.yaml. Add it there"
}

recipients() { sed -nE 's/^ +age: *"?([^"]*)"?$/\1/p' .sops.yaml; }

write_recipients() {
  sed -E "s/^( +age: ).*/\\1$1/" .sops.yaml >.sops.yaml.new
  mv .sops.yaml.new .sops.yaml
}

is_encrypted() { grep -q '^ *mac: ENC\[' "$1"; }

secrets_of() {
  local file=k8s/overlays/$1/secrets.sops.yaml
  [ -f "$file" ] || die "there is no $file"
  printf '%s\n' "$file"
}

encrypted_secrets_of() {
  local file
  file=$(secrets_of "$1")
  is_encrypted "$file" || die "$file is only the example. Run scripts/secrets.sh init $1"
  printf '%s\n' "$file"
}

need() {
  local tool
  for tool; do command -v "$tool" >/dev/null || die "$tool is needed, but is not on the PATH"; done
}

say() { printf '%s\n' "$*"; }
die() {
  printf 'secrets.sh: %s.\n' "$*" >&2
  exit 1
}
usage() {
  sed -nE 's/^#   //p' "$0" >&2
  exit 2
}

main "$@"
