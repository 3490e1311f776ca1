# shellcheck shell=bash
# Functions of the backup, the restore and the restore drill: the log, errors, and the result in sluice.jobs.

# The log goes to the script's stdout, even from a function whose own stdout is redirected.
exec 5>&1

# Logs a line of JSON in the format of the API's log. LEVEL TEXT [NAME NUMBER]...
say() {
  local text=${2//\\/\\\\} fields=''
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  local level=$1 && shift 2
  while [ $# -gt 0 ]; do fields+=",\"$1\":$2" && shift 2; done
  printf '{"level":"%s","time":"%s","msg":"%s"%s}\n' "$level" "$(date -u +%FT%TZ)" "${text//[[:cntrl:]]/ }" "$fields" >&5
}

die() {
  say error "$1"
  exit 1
}

# Runs a command. If it fails, logs its stderr and exits.
try() {
  local errors
  { errors=$("$@" 2>&1 >&3); } 3>&1 || die "$errors"
}

# Runs psql without the user's psqlrc. Errors are terse, because details quote values, and payload must never be logged.
query() {
  psql --no-psqlrc --no-password --quiet --tuples-only --no-align \
    --set=ON_ERROR_STOP=on --set=VERBOSITY=terse --set=SHOW_CONTEXT=never "$@"
}

# Waits until this pod can log in to PostgreSQL at DATABASE_URL, for at most CONNECT_WAIT_SECONDS (default: 60). A network policy admits a
# new pod only after about a second, and the server may be restarting.
await_database() {
  local deadline=$((SECONDS + ${CONNECT_WAIT_SECONDS:=60})) waited=$CONNECT_WAIT_SECONDS errors
  until errors=$(query --command=SELECT "$DATABASE_URL" 2>&1); do
    if [ "$SECONDS" -ge "$deadline" ]; then
      # One wait is enough: the record of this failure tries only once.
      CONNECT_WAIT_SECONDS=0
      die "cannot log in to PostgreSQL, tried for $waited s: $errors"
    fi
    sleep 1
  done
}

# Lists the names of the backups, newest first. A backup that is being made or deleted has another form of name.
backups() {
  find "${BACKUPS:?}" -mindepth 1 -maxdepth 1 -type d -name 'sluice-[0-9]*T[0-9]*Z' -exec basename {} ';' | sort -r
}

# Prints a number or text from the top level of a backup's manifest. BACKUP NAME
manifest() {
  sed -nE "s/^    \"$2\": \"?([^\",]*).*/\1/p" "$BACKUPS/$1/manifest.json"
}

# Stores the result of this run. Called when the job ends or fails. JOB SUCCEEDED FIGURES (a JSON object)
record() {
  (await_database && try store_result "$@") ||
    say error 'the result of this run could not be stored in sluice.jobs, so /metrics does not show it'
}

# Like src/data/jobs.ts.
store_result() {
  query --set=job="$1" --set=succeeded="$2" --set=seconds="$SECONDS" --set=figures="$3" "$DATABASE_URL" <<'SQL'
    INSERT INTO sluice.jobs AS known (job, finished_at, succeeded, succeeded_at, seconds, figures)
    VALUES (:'job', now(), :'succeeded', CASE WHEN :'succeeded'::boolean THEN now() END, :seconds, :'figures')
    ON CONFLICT (job) DO UPDATE SET
      finished_at  = excluded.finished_at,
      succeeded    = excluded.succeeded,
      succeeded_at = coalesce(excluded.succeeded_at, known.succeeded_at),
      seconds      = excluded.seconds,
      figures      = excluded.figures;
SQL
}
