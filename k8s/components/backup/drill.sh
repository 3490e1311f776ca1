#!/usr/bin/env bash
# Restores the newest backup of the folder BACKUPS for practice: with restore.sh, as on the day that it is needed, into a
# server of its own in the folder SCRATCH, which nobody can reach from outside. Tells the database at DATABASE_URL.
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
  age=$(($(date +%s) - $(begun_at "$newest")))
  succeeded=true
}

start_server() {
  # It lives for minutes, and has to survive nothing: no fsync, and no more WAL than must be.
  try initdb --pgdata="$SCRATCH/data" --username=postgres --auth-local=trust --encoding=UTF8 --locale=C --no-sync >/dev/null
  try pg_ctl start --silent --wait --pgdata="$SCRATCH/data" --log="$SCRATCH/log" --options="-c listen_addresses= \
    -c unix_socket_directories=$SCRATCH -c unix_socket_permissions=0700 -c fsync=off -c full_page_writes=off \
    -c wal_level=minimal -c max_wal_senders=0 -c max_wal_size=128MB -c shared_buffers=64MB" >/dev/null
  try query --command='CREATE DATABASE sluice' "host=$SCRATCH user=postgres dbname=postgres"
}

# sluice-20261126T013000Z, in seconds since 1970.
begun_at() {
  date -u --date="$(sed -E 's/^sluice-(....)(..)(..)T(..)(..)(..)Z$/\1-\2-\3 \4:\5:\6/' <<<"$1")" +%s
}

finish() {
  pg_ctl stop --silent --mode=immediate --pgdata="$SCRATCH/data" >/dev/null 2>&1 || true
  if [ "${succeeded:-false}" = true ]; then
    record restore_drill true "{\"backup_age_seconds\":$age,\"records\":$records}"
  else
    say error "the restore drill has failed: ${newest:-no backup} cannot be relied on"
    record restore_drill false '{}'
  fi
}

main
