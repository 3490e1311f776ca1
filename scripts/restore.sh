#!/usr/bin/env bash
# Restores a backup; see "Restore" in k8s/components/backup/README.md.
#
#   scripts/restore.sh                       list the backups
#   scripts/restore.sh BACKUP [--dry-run]    restore one: its name, or latest
#
# By default it restores in the cluster of the current context, from the volume sluice-backups. If the environment has BACKUPS
# and DATABASE_URL, it restores from that folder into that database, as its owner. This needs psql and pg_restore of
# PostgreSQL 18, and `npm ci` in this repository, which also installs the right Node.js.
#
# The database must be empty, or contain only what an API creates before it stores a record. Everything is restored, or nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

namespace=sluice
backup='' dry_run=()
for argument; do
  case $argument in
    --dry-run) dry_run=(--dry-run) ;;
    -*) sed -nE 's/^#   //p' "$0" >&2 && exit 2 ;;
    *) backup=$argument ;;
  esac
done

main() {
  if [ -n "${BACKUPS:-}" ]; then
    restore_locally
  else
    in_cluster
  fi
}

restore_locally() {
  need psql pg_restore
  if [ -z "$backup" ]; then
    bash k8s/components/backup/restore.sh
    return
  fi
  [ -n "${DATABASE_URL:-}" ] || die 'DATABASE_URL is not set. Set it to the database to restore into, as its owner'
  check_sluice
  hide_password
  # A person should see an error at once. In the cluster, the pod waits for its network policy.
  export CONNECT_WAIT_SECONDS=${CONNECT_WAIT_SECONDS:-0}
  bash k8s/components/backup/restore.sh "$backup" ${dry_run[@]+"${dry_run[@]}"}
  changes_something || return 0
  "$node" src/sluice.js migrate
  "$node" src/sluice.js epoch begin
}

# Checks the version of Node.js and the packages before the restore, because the commands after it must not fail.
check_sluice() {
  node=node_modules/.bin/node
  [ -x "$node" ] || node=node
  need "$node"
  # The second one loads all packages that the commands need.
  { "$node" src/sluice.js --version >/dev/null &&
    "$node" --input-type=module --eval "await import('./src/commands/migrate.ts'); await import('./src/commands/epoch.ts')"; } ||
    die 'Sluice does not run here, see above. Nothing was changed. Run npm ci, which also installs the right Node.js'
}

# Moves the password from the URL to the environment: psql gets the URL as an argument, which ps shows.
hide_password() {
  if [[ $DATABASE_URL =~ ^([a-z]+://[^:/@]*):([^@/]*)@(.*)$ ]]; then
    PGPASSWORD=$(printf '%b' "${BASH_REMATCH[2]//%/\\x}")
    DATABASE_URL=${BASH_REMATCH[1]}@${BASH_REMATCH[3]}
    export PGPASSWORD DATABASE_URL
  fi
}

# Creates a Job from the CronJob sluice-restore. The Job and its log stay for a week.
in_cluster() {
  need kubectl
  local job status
  job=sluice-restore-$(date -u +%Y%m%d-%H%M%S)
  if changes_something; then check_api_is_stopped; fi
  kubectl -n "$namespace" create job "$job" --from=cronjob/sluice-restore --dry-run=client -o yaml |
    kubectl patch --local -f - --type=json -p "$(job_patch)" -o yaml |
    kubectl create -f - >/dev/null
  say "waiting for the Job $job"
  wait_for_end
  kubectl -n "$namespace" logs "job/$job" --all-containers --prefix=false --tail=-1
  if [[ $status != *Complete* ]]; then die "the Job failed. See the log above, or run kubectl -n $namespace describe job $job"; fi
  if changes_something; then say 'restored. Start the API: run scripts/deploy.sh with your overlay'; fi
}

# Waits for Complete or Failed, and sets `status`. kubectl wait can wait for only one condition. A restore may take hours, so there
# is no time limit: a line each minute shows what the pod does, such as Pending or ImagePullBackOff.
wait_for_end() {
  local tries failures=0
  for ((tries = 1; ; tries++)); do
    if status=$(kubectl -n "$namespace" get job "$job" -o 'jsonpath={.status.conditions[?(@.status=="True")].type}'); then
      failures=0
      [[ $status != *Complete* && $status != *Failed* ]] || return 0
    else
      failures=$((failures + 1))
      [ "$failures" -lt 30 ] || die "the state of the Job $job is not known, see above. It may still run. Look at it: kubectl -n $namespace describe job $job"
    fi
    if [ $((tries % 30)) -eq 0 ]; then
      say "still waiting. Its pod: $(kubectl -n "$namespace" get pods -l "job-name=$job" --no-headers 2>&1 || true)"
    fi
    sleep 2
  done
}

# The JSON patch for the Job: sets the arguments of restore.sh. For a list or a dry run, it also removes the later steps.
job_patch() {
  local pod=/spec/template/spec arguments=''
  if [ -n "$backup" ]; then arguments="\"$backup\""; fi
  if [ ${#dry_run[@]} -gt 0 ]; then arguments+=',"--dry-run"'; fi
  printf '[{"op": "replace", "path": "%s/initContainers/0/args", "value": [%s]}' "$pod" "$arguments"
  if ! changes_something; then
    printf ', {"op": "copy", "from": "%s/initContainers/0", "path": "%s/containers/0"}' "$pod" "$pod"
    printf ', {"op": "remove", "path": "%s/containers/1"}, {"op": "remove", "path": "%s/initContainers"}' "$pod" "$pod"
  fi
  printf ']'
}

changes_something() { [ -n "$backup" ] && [ ${#dry_run[@]} -eq 0 ]; }

check_api_is_stopped() {
  local pods api="-l app.kubernetes.io/component=api"
  # shellcheck disable=SC2086 # two arguments
  pods=$(kubectl -n "$namespace" get pods $api -o name) || die 'kubectl does not say whether the API runs, see above. Nothing was changed'
  [ -z "$pods" ] || die "the API still runs and could store records during the restore. Stop it, and wait until its pods have ended:
  kubectl -n $namespace scale deployment/sluice-api --replicas=0
  kubectl -n $namespace wait --for=delete pod $api --timeout=2m
Then run the restore again"
}

need() {
  local program
  for program; do
    command -v "$program" >/dev/null || die "$program is needed, but is not on the PATH"
  done
}

say() { printf -- '--- %s\n' "$*" >&2; }
die() {
  printf 'restore.sh: %s.\n' "$*" >&2
  exit 1
}

main
