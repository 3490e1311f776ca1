#!/usr/bin/env bash
# Restores a backup on the day it is needed; see "Restore" in k8s/README.md.
#
#   scripts/restore.sh                       list the backups
#   scripts/restore.sh BACKUP [--dry-run]    restore one: its name, or latest
#
# In the cluster of the current context, from the volume sluice-backups. Or, with BACKUPS and DATABASE_URL in the environment,
# from that folder into that database, as its owner; this takes psql and pg_restore of PostgreSQL 18, and Node.js.
#
# The database has to be empty, or to hold no more than its first migration put there. It is restored whole or not at all.
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
    here
  else
    in_cluster
  fi
}

here() {
  need psql pg_restore node
  if [ -z "$backup" ]; then
    bash k8s/components/backup/restore.sh
    return
  fi
  [ -n "${DATABASE_URL:-}" ] || die 'DATABASE_URL is not set: the database to restore into, as its owner'
  hide_password
  bash k8s/components/backup/restore.sh "$backup" ${dry_run[@]+"${dry_run[@]}"}
  changes_something || return 0
  node src/main.ts migrate
  node src/main.ts epoch begin
}

# From the URL into the environment: psql gets the URL as an argument, which ps shows.
hide_password() {
  if [[ $DATABASE_URL =~ ^([a-z]+://[^:/@]*):([^@/]*)@(.*)$ ]]; then
    PGPASSWORD=$(printf '%b' "${BASH_REMATCH[2]//%/\\x}")
    DATABASE_URL=${BASH_REMATCH[1]}@${BASH_REMATCH[3]}
    export PGPASSWORD DATABASE_URL
  fi
}

# A Job of what the CronJob sluice-restore holds; it stays, with its log, until somebody removes it.
in_cluster() {
  need kubectl
  local job
  job=sluice-restore-$(date -u +%Y%m%d-%H%M%S)
  if changes_something; then
    api_is_stopped || die 'the API still runs, and would store records meanwhile. Stop it first: kubectl -n sluice scale deployment/sluice-api --replicas=0'
  fi
  kubectl -n "$namespace" create job "$job" --from=cronjob/sluice-restore --dry-run=client -o yaml |
    kubectl patch --local -f - --type=json -p "$(changes)" -o yaml |
    kubectl create -f - >/dev/null
  say "waiting for the Job $job"
  # Whichever comes first: kubectl waits for one condition at a time.
  local status
  until status=$(kubectl -n "$namespace" get job "$job" -o 'jsonpath={.status.conditions[?(@.status=="True")].type}') &&
    [[ $status == *Complete* || $status == *Failed* ]]; do
    sleep 2
  done
  kubectl -n "$namespace" logs "job/$job" --all-containers --prefix=false --tail=-1
  if [[ $status != *Complete* ]]; then die "nothing was restored: see above, or kubectl -n $namespace describe job $job"; fi
  if changes_something; then say 'restored. Start the API: scripts/deploy.sh, with your overlay'; fi
}

# Of the Job, as a JSON patch: what restore.sh is asked to do; and unless it is to restore, nothing comes after it.
changes() {
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

api_is_stopped() {
  [ -z "$(kubectl -n "$namespace" get pods -l app.kubernetes.io/component=api -o name)" ]
}

need() {
  local program
  for program; do
    command -v "$program" >/dev/null || die "$program is needed, and not on the PATH"
  done
}

say() { printf -- '--- %s\n' "$*" >&2; }
die() {
  printf 'restore.sh: %s.\n' "$*" >&2
  exit 1
}

main
