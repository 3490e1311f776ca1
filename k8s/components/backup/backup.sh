#!/usr/bin/env bash
# Makes a backup of the database at DATABASE_URL in the folder BACKUPS. A backup that is not complete is discarded.
#
#   sluice-20261126T013000Z/    UTC, the time at which it was started
#     sluice.dump               in pg_dump's custom format
#     manifest.json             what the dump contains: see manifest.sql
#     SHA256SUMS                checksums of these two files
#
# Then it deletes old backups: at most KEEP stay, and none older than KEEP_DAYS. The new one always stays. If no new backup can
# be made, no old one is deleted.
set -euo pipefail
shopt -s nullglob
here=$(dirname "$0")
# shellcheck source-path=SCRIPTDIR source=job.sh
. "$here/job.sh"

main() {
  [ -w "$BACKUPS" ] || die "cannot write to $BACKUPS. Make it writable for the user $(id -u)"
  exec 9>>"$BACKUPS/lock"
  flock --nonblock 9 || die 'another backup is being made in this folder: this one did not start'
  trap finish EXIT
  # Runs that were killed left these behind. No other run is active, because this one holds the lock.
  rm -rf "$BACKUPS"/.new-* "$BACKUPS"/.old-*

  check_free_space
  await_database
  name=sluice-$(date -u +%Y%m%dT%H%M%SZ)
  new=$BACKUPS/.new-$name
  try mkdir "$new"
  dump
  check
  publish
  prune
  bytes=$(wc -c <"$BACKUPS/$name/sluice.dump")
  kept=$(backups | wc -l)
  succeeded=true
}

# The database may be on the same disk, and a full disk stops it. Having no new backup is better than that.
check_free_space() {
  local newest free bytes
  newest=$(backups | sed -n 1p)
  [ -n "$newest" ] || return 0
  free=$(df --output=avail --block-size=1 "$BACKUPS" | tail -n 1)
  bytes=$(wc -c <"$BACKUPS/$newest/sluice.dump")
  [ "$free" -ge $((3 * bytes)) ] ||
    die "only $free bytes are free on the disk of $BACKUPS, less than three times the newest backup. Free space, or lower KEEP"
}

# Makes the dump and its manifest from the same snapshot, while the API continues to write.
dump() {
  export new
  try query "$DATABASE_URL" >"$new/manifest.json" <<SQL
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SELECT pg_export_snapshot() AS snapshot \gset
    \setenv snapshot :snapshot
    \! pg_dump --no-password --snapshot="\$snapshot" --schema=sluice --format=custom --file="\$new/sluice.dump" "\$DATABASE_URL"
    \if :SHELL_ERROR
      DO 'BEGIN RAISE EXCEPTION \$\$pg_dump failed\$\$; END';
    \endif
    \i $here/manifest.sql
    COMMIT;
SQL
}

# Checks that the whole dump can be read and unpacked.
check() {
  try pg_restore --file=/dev/null "$new/sluice.dump"
  (cd "$new" && sha256sum sluice.dump manifest.json >SHA256SUMS)
}

publish() {
  try sync "$new"/* "$new"
  try mv --no-target-directory "$new" "$BACKUPS/$name"
  published=true
  try sync "$BACKUPS"
}

prune() {
  local oldest kept=1 other
  oldest=sluice-$(date -u --date="-$KEEP_DAYS days" +%Y%m%dT%H%M%SZ)
  for other in $(backups | grep -vxF "$name"); do
    if [ "$kept" -lt "$KEEP" ] && [[ ! $other < $oldest ]]; then
      kept=$((kept + 1))
      continue
    fi
    # Renamed first: a backup that is deleted halfway must not look like a backup.
    try mv --no-target-directory "$BACKUPS/$other" "$BACKUPS/.old-$other"
    try rm -rf "$BACKUPS/.old-$other"
    say info "deleted $other"
  done
}

finish() {
  rm -rf "$BACKUPS"/.new-*
  if [ "${succeeded:-false}" = true ]; then
    say info "made $name" records "$(manifest "$name" records)" bytes "$bytes" kept "$kept" seconds "$SECONDS"
    record backup true "{\"bytes\":$bytes,\"kept\":$kept}"
  else
    if [ "${published:-false}" = true ]; then
      say error "$name was made, but the run did not finish: see the error above"
    else
      say error 'no backup was made. The existing backups are unchanged'
    fi
    record backup false '{}'
  fi
}

main
