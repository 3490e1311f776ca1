#!/usr/bin/env bash
# Makes a backup of the database at DATABASE_URL in the folder BACKUPS: whole, or not at all.
#
#   sluice-20261126T013000Z/    UTC, the time at which it was begun
#     sluice.dump               pg_dump's custom format
#     manifest.json             what is in it: see manifest.sql
#     SHA256SUMS                of the two
#
# Afterwards at most KEEP backups are left, none of them older than KEEP_DAYS, and always the one just made: when no
# new one can be made, no old one is removed.
set -euo pipefail
shopt -s nullglob
here=$(dirname "$0")
# shellcheck source-path=SCRIPTDIR source=job.sh
. "$here/job.sh"

main() {
  [ -w "$BACKUPS" ] || die "$BACKUPS cannot be written to"
  exec 9>>"$BACKUPS/lock"
  flock --nonblock 9 || die 'another backup is being made in this folder: this one was not begun'
  trap finish EXIT
  # Of runs that were killed: with the lock in our hands, there are no others.
  rm -rf "$BACKUPS"/.new-* "$BACKUPS"/.old-*

  room
  name=sluice-$(date -u +%Y%m%dT%H%M%SZ)
  new=$BACKUPS/.new-$name
  try mkdir "$new"
  dump
  check
  put_in_place
  prune
  bytes=$(wc -c <"$BACKUPS/$name/sluice.dump")
  kept=$(backups | wc -l)
  succeeded=true
}

# The disk may be the database's too, and a full one stops it: rather no backup than that.
room() {
  local newest free bytes
  newest=$(backups | sed -n 1p)
  [ -n "$newest" ] || return 0
  free=$(df --output=avail --block-size=1 "$BACKUPS" | tail -n 1)
  bytes=$(wc -c <"$BACKUPS/$newest/sluice.dump")
  [ "$free" -ge $((3 * bytes)) ] ||
    die "there are $free bytes left on the disk of $BACKUPS, which is less than three times the newest backup. Make room, or lower KEEP"
}

# The dump and its manifest, of one and the same snapshot, while others go on writing.
dump() {
  export new
  try query "$DATABASE_URL" >"$new/manifest.json" <<SQL
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SELECT pg_export_snapshot() AS snapshot \gset
    \setenv snapshot :snapshot
    \! pg_dump --no-password --snapshot="\$snapshot" --schema=sluice --format=custom --file="\$new/sluice.dump" "\$DATABASE_URL"
    \if :SHELL_ERROR
      DO 'BEGIN RAISE EXCEPTION \$\$the dump was not made\$\$; END';
    \endif
    \i $here/manifest.sql
    COMMIT;
SQL
}

# That every byte of it can be read and unpacked.
check() {
  try pg_restore --file=/dev/null "$new/sluice.dump"
  (cd "$new" && sha256sum sluice.dump manifest.json >SHA256SUMS)
}

put_in_place() {
  try sync "$new"/* "$new"
  try mv --no-target-directory "$new" "$BACKUPS/$name"
  try sync "$BACKUPS"
}

prune() {
  local oldest place=0 other
  oldest=sluice-$(date -u --date="-$KEEP_DAYS days" +%Y%m%dT%H%M%SZ)
  for other in $(backups | grep -vxF "$name"); do
    place=$((place + 1))
    if [ "$place" -lt "$KEEP" ] && [[ ! $other < $oldest ]]; then continue; fi
    # In one step: half a backup must not look like one.
    try mv --no-target-directory "$BACKUPS/$other" "$BACKUPS/.old-$other"
    try rm -rf "$BACKUPS/.old-$other"
    say info "removed $other"
  done
}

finish() {
  rm -rf "$BACKUPS"/.new-*
  if [ "${succeeded:-false}" = true ]; then
    say info "made $name" records "$(manifest "$name" records)" bytes "$bytes" kept "$kept" seconds "$SECONDS"
    record backup true "{\"bytes\":$bytes,\"kept\":$kept}"
  else
    say error 'no backup was made; those that are there were left alone'
    record backup false '{}'
  fi
}

main
