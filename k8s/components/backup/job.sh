# shellcheck shell=bash
# What the backup and the restore drill share: their log, their end, and what they leave behind in sluice.jobs.

# The log is where stdout was at the start, also for a function whose own goes elsewhere.
exec 5>&1

# A line of JSON, as the API's log has them. LEVEL TEXT [NAME NUMBER]...
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

# Runs a command, and ends with what it wrote to stderr when it fails.
try() {
  local errors
  { errors=$("$@" 2>&1 >&3); } 3>&1 || die "$errors"
}

# No settings of someone's home; and of an error nothing that quotes values: records are payload, and payload is never logged.
query() {
  psql --no-psqlrc --no-password --quiet --tuples-only --no-align \
    --set=ON_ERROR_STOP=on --set=VERBOSITY=terse --set=SHOW_CONTEXT=never "$@"
}

# The names of the backups that are there, newest first. What is being made or removed has a name of another form.
backups() {
  find "${BACKUPS:?}" -mindepth 1 -maxdepth 1 -type d -name 'sluice-[0-9]*T[0-9]*Z' -exec basename {} ';' | sort -r
}

# A number or text on the first level of a backup's manifest.
manifest() {
  sed -nE "s/^    \"$2\": \"?([^\",]*).*/\1/p" "$BACKUPS/$1/manifest.json"
}

# What src/data/jobs.ts does. Called when the job ends, however it does. JOB SUCCEEDED FIGURES, a JSON object
record() {
  query --set=job="$1" --set=succeeded="$2" --set=seconds="$SECONDS" --set=figures="$3" "$DATABASE_URL" <<'SQL' ||
    INSERT INTO sluice.jobs AS known (job, finished_at, succeeded, succeeded_at, seconds, figures)
    VALUES (:'job', now(), :'succeeded', CASE WHEN :'succeeded'::boolean THEN now() END, :seconds, :'figures')
    ON CONFLICT (job) DO UPDATE SET
      finished_at  = excluded.finished_at,
      succeeded    = excluded.succeeded,
      succeeded_at = coalesce(excluded.succeeded_at, known.succeeded_at),
      seconds      = excluded.seconds,
      figures      = excluded.figures;
SQL
    say error 'how this run ended could not be written down in sluice.jobs, and /metrics does not show it'
}
