#!/usr/bin/env bash
# Tests that the newest backup in the folder BACKUPS can be restored. Uses restore.sh, as a real restore does, and a temporary
# server in the folder SCRATCH that cannot be reached from outside. Stores the result in the database at DATABASE_URL.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source-path=SCRIPTDIR source=job.sh
. "$here/job.sh"

main() {
  trap finish EXIT
  newest=$(backups | sed -n 1p)
  [ -n "$newest" ] || die "there is no backup in $BACKUPS"
  start_server
  DATABASE_URL="host=$SCRATCH user=postgres dbname=sluice" bash "$here/restore.sh" "$newest"
  records=$(manifest "$newest" records)
  age=$(($(date +%s) - $(started_at "$newest")))
  succeeded=true
}

start_server() {
  # This server runs for minutes and need not survive a crash: no fsync, and as little WAL as possible.
  try initdb --pgdata="$SCRATCH/data" --username=postgres --auth-local=trust --encoding=UTF8 --locale=C --no-sync >/dev/null
  try pg_ctl start --silent --wait --pgdata="$SCRATCH/data" --log="$SCRATCH/log" --options="-c listen_addresses= \
    -c unix_socket_directories=$SCRATCH -c unix_socket_permissions=0700 -c fsync=off -c full_page_writes=off \
    -c wal_level=minimal -c max_wal_senders=0 -c max_wal_size=128MB -c shared_buffers=64MB" >/dev/null
  try query --command='CREATE DATABASE sluice' "host=$SCRATCH user=postgres dbname=postgres"
}

# The time in the name of a backup, such as sluice-20261126T013000Z, in seconds since 1970.
started_at() {
  date -u --date="$(sed -E 's/^sluice-(....)(..)(..)T(..)(..)(..)Z$/\1-\2-\3 \4:\5:\6/' <<<"$1")" +%s
}

finish() {
  pg_ctl stop --silent --mode=immediate --pgdata="$SCRATCH/data" >/dev/null 2>&1 || true
  if [ "${succeeded:-false}" = true ]; then
    record restore_drill true "{\"backup_age_seconds\":$age,\"records\":$records}"
  else
    say error "the restore drill of ${newest:-the newest backup} failed"
    record restore_drill false '{}'
  fi
}

main
