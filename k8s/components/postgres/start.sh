#!/usr/bin/env bash
# Starts PostgreSQL, and makes sure that it is the only server on the volume.
#
# After a pod was deleted by force, or a node was unreachable, the old server may still run when the new one starts. Two
# servers on one volume destroy each other's data. postmaster.pid does not help, because each server has its own process
# namespace. So this script takes a kernel lock on a file of the volume. The server inherits the open file through every exec.
# The lock is free when the server's last process has ended, for whatever reason.
set -euo pipefail

say() { printf '{"timestamp":"%(%FT%TZ)T","error_severity":"%s","message":"%s"}\n' -1 "$1" "$2" >&2; }

# Makes each line of text a line of the log.
as_json() {
  local line
  while IFS= read -r line; do
    line=${line//\\/\\\\} line=${line//\"/\\\"} line=${line//[[:cntrl:]]/ }
    if [[ $line =~ \]\ ([A-Z]+):\ +(.*) ]]; then
      say "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
    elif [ -n "$line" ]; then
      say LOG "$line"
    fi
  done
}

# Exit at once while waiting. Without this, bash would leave SIGINT to the command that it runs.
trap 'exit 143' TERM
trap 'exit 130' INT

volume=$(dirname "$PGDATA")
exec 9>>"$volume/lock"
if ! flock --nonblock 9; then
  say WARNING 'another PostgreSQL still runs on this volume: waiting for it to stop'
  # For a second at a time, because bash handles signals only between commands. Exit code 1 means that the lock is still held;
  # every other code is an error.
  until flock --wait 1 9; do
    [ $? -eq 1 ] || exit
  done
  say LOG 'the other PostgreSQL has stopped'
fi

# PostgreSQL writes JSON only through its collector, and the collector writes only to files. These links make the file the
# container's log. They use a copy of the file descriptor, because the collector replaces the server's standard error.
exec 8>&2
log=${TMPDIR:-/tmp}/log
mkdir -p "$log"
for file in postgresql.json postgresql.log; do ln -sfn "/proc/$$/fd/8" "$log/$file"; done

config=$(dirname "$0")
server=(postgres -c config_file="$config/postgresql.conf" -c hba_file="$config/pg_hba.conf" -c log_directory="$log")
if ! true 2>/dev/null >>"$log/postgresql.json"; then
  say WARNING 'the container log cannot be opened as a file: the log is text, not JSON'
  server+=(-c logging_collector=off -c log_destination=stderr)
fi

# A killed server leaves its postmaster.pid behind, with a process id that may belong to another process in this container.
# The lock proves that no server runs on this volume.
rm -f "$PGDATA/postmaster.pid"
# With fsGroup, Kubernetes makes the volume writable for the group. PostgreSQL refuses to start on such a folder.
if [ -d "$PGDATA" ]; then chmod 00700 "$PGDATA"; fi

# A hash of the superuser's name and password in the Secret shows whether they changed since the last start.
mark=$(printf '%s:%s' "$POSTGRES_USER" "$POSTGRES_PASSWORD" | sha256sum)

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # Created in another folder and then moved: an interrupted first start leaves nothing that looks like a database.
  rm -rf "$PGDATA.new"
  PGDATA="$PGDATA.new" docker-ensure-initdb.sh "${server[@]}" 2>&1 | as_json
  mv --no-target-directory "$PGDATA.new" "$PGDATA"
elif [ "$(cat "$volume/superuser" 2>/dev/null || true)" != "$mark" ]; then
  # Single-user mode needs no login, and the old password is not known here. A pipe, because ps shows arguments.
  printf "ALTER ROLE \"%s\" PASSWORD '%s'\n" "${POSTGRES_USER//\"/\"\"}" "${POSTGRES_PASSWORD//\'/\'\'}" |
    postgres --single "${server[@]:1}" -c exit_on_error=on -c log_min_error_statement=panic postgres 2>&1 >/dev/null | as_json
  say LOG 'set the password of the superuser from the Secret'
fi
printf '%s\n' "$mark" >"$volume/superuser"

# Not through docker-entrypoint.sh: all that it would do now is print three lines of text.
exec "${server[@]}"
