#!/usr/bin/env bash
# Restores a backup from the folder BACKUPS into the database at DATABASE_URL, as the owner of the database. It restores
# everything or nothing. Run `sluice migrate`, which sets privileges, and `sluice epoch begin` afterwards.
#
#   restore.sh                       list the backups
#   restore.sh BACKUP [--dry-run]    restore one: its name, or latest
#
# The database must be empty, or contain only what an API creates before it stores a record.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source-path=SCRIPTDIR source=job.sh
. "$here/job.sh"

main() {
  if [ -z "${1:-}" ]; then
    list
    return
  fi
  backup=$1
  if [ "$backup" = latest ]; then backup=$(backups | sed -n 1p); fi
  folder=$BACKUPS/$backup
  if [ -z "$backup" ] || [ ! -f "$folder/sluice.dump" ]; then die "there is no backup ${backup:-at all} in $BACKUPS"; fi

  (cd "$folder" && sha256sum --quiet --check SHA256SUMS) >/dev/null 2>&1 ||
    die "$backup is damaged: its checksums do not match. Nothing was changed. Use another backup"
  contents=$(manifest "$backup" records)
  await_database
  if [ "${2:-}" = --dry-run ]; then
    try query --file="$here/only-empty.sql" "$DATABASE_URL"
    try pg_restore --file=/dev/null "$folder/sluice.dump"
    say info "dry run: $backup is complete and can be restored here; nothing was changed" records "$contents"
    return
  fi
  restore
  say info "restored $backup; the content matches its manifest" records "$contents" seconds "$SECONDS"
}

list() {
  local name
  printf '%-28s%14s%16s  %s\n' BACKUP RECORDS BYTES 'LAST RECEIVED'
  for name in $(backups); do
    printf '%-28s%14s%16s  %s\n' "$name" "$(manifest "$name" records)" "$(wc -c <"$BACKUPS/$name/sluice.dump")" \
      "$(manifest "$name" last_received_at)"
  done
}

# Restores in one transaction. It commits only if pg_restore succeeded and the tables match the manifest. If anything fails
# before that, the connection closes and the database is unchanged.
restore() {
  restored=$(mktemp)
  trap 'rm -f "$restored"' EXIT
  expected=$folder/manifest.json
  export restored expected
  try transaction
}

transaction() {
  {
    cat <<SQL
      BEGIN;
      -- Others who want to write wait, and then write to the restored tables.
      SET LOCAL lock_timeout = '30s';
      SELECT format('LOCK TABLE sluice.%I IN ACCESS EXCLUSIVE MODE', tablename) FROM pg_tables WHERE schemaname = 'sluice' \gexec
      \i $here/only-empty.sql
      SET LOCAL client_min_messages = error;
      DROP SCHEMA IF EXISTS sluice CASCADE;
      \o /dev/null
SQL
    pg_restore --no-owner --no-privileges --file=- "$folder/sluice.dump" || exit
    cat <<SQL
      \o $restored
      \i $here/manifest.sql
      \o
      \! diff "\$expected" "\$restored" >&2
      \if :SHELL_ERROR
        DO 'BEGIN RAISE EXCEPTION \$\$the restored content does not match its manifest, see the difference above: nothing was changed\$\$; END';
      \endif
      COMMIT;
SQL
  } | query "$DATABASE_URL"
}

main "$@"
