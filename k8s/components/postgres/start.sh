#!/usr/bin/env bash
# Starts PostgreSQL on the volume, alone.
#
# After a forced deletion of the pod, or a node that was away, the old server may still be running when the new one
# starts. It is in a process namespace of its own, so that postmaster.pid says nothing, and two servers on one volume
# destroy each other's data. The lock is the kernel's, on a file of the volume: it is held by an open file that the
# server inherits through every exec, and is free when the last process of that server is gone, however it ended.
set -euo pipefail

say() { printf '{"timestamp":"%(%FT%TZ)T","error_severity":"%s","message":"%s"}\n' -1 "$1" "$2" >&2; }

# To end at once while it waits: bash takes a SIGINT for one that is meant for the command it runs.
trap 'exit 143' TERM
trap 'exit 130' INT

volume=$(dirname "$PGDATA")
exec 9>>"$volume/lock"
if ! flock --nonblock 9; then
  say WARNING 'another PostgreSQL still runs on this volume: waiting until it has ended'
  # A second at a time, since bash answers a signal only between two commands. 1: still held; all else is a failure.
  until flock --wait 1 9; do
    [ $? -eq 1 ] || exit
  done
  say LOG 'the other PostgreSQL has ended'
fi

# PostgreSQL writes JSON only through its collector, and the collector only to a file: this one is the container's log.
# A copy of it, since the collector takes the place of the server's own standard error.
exec 8>&2
log=${TMPDIR:-/tmp}/log
mkdir -p "$log"
for file in postgresql.json postgresql.log; do ln -sfn "/proc/$$/fd/8" "$log/$file"; done

config=$(dirname "$0")
server=(postgres -c config_file="$config/postgresql.conf" -c hba_file="$config/pg_hba.conf" -c log_directory="$log")
if ! true 2>/dev/null >>"$log/postgresql.json"; then
  say WARNING 'the log cannot be opened a second time here: it is text, not JSON'
  server+=(-c logging_collector=off -c log_destination=stderr)
fi

# What a killed server left there names a process of its own container, and may be that of something else in this one. That
# there is none on this volume is known from the lock.
rm -f "$PGDATA/postmaster.pid"
# The group may write wherever Kubernetes has made the volume its own (fsGroup), and PostgreSQL refuses to start there.
if [ -d "$PGDATA" ]; then chmod 00700 "$PGDATA"; fi

# The superuser's password as the Secret has it: known by its hash, so that a start without a new one does nothing here.
mark=$(printf '%s:%s' "$POSTGRES_USER" "$POSTGRES_PASSWORD" | sha256sum)

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # Made beside its place and moved there whole: a first start that was cut short leaves nothing that looks like a
  # database.
  rm -rf "$PGDATA.new"
  PGDATA="$PGDATA.new" docker-ensure-initdb.sh "${server[@]}"
  mv --no-target-directory "$PGDATA.new" "$PGDATA"
elif [ "$(cat "$volume/superuser" 2>/dev/null || true)" != "$mark" ]; then
  # Nobody can log in to change it who does not know the old one. By a pipe: arguments are for everyone to see.
  printf "ALTER ROLE \"%s\" PASSWORD '%s'\n" "${POSTGRES_USER//\"/\"\"}" "${POSTGRES_PASSWORD//\'/\'\'}" |
    postgres --single "${server[@]:1}" -c exit_on_error=on -c log_min_error_statement=panic postgres >/dev/null
  say LOG 'the superuser has the password of the Secret'
fi
printf '%s\n' "$mark" >"$volume/superuser"

exec docker-entrypoint.sh "${server[@]}"
