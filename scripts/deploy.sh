#!/usr/bin/env bash
# Deploys an overlay of k8s/ to the cluster of the current context, and checks that it works.
#
#   scripts/deploy.sh OVERLAY [--dry-run] [--no-api]
#
#   --dry-run    check, show the differences, and change nothing
#   --no-api     deploy everything except the API, so that nobody writes to the database: for scripts/restore.sh
#   TIMEOUT      environment variable: how long to wait for each part. Default: 10m
set -euo pipefail
cd "$(dirname "$0")/.."

namespace=sluice
timeout=${TIMEOUT:-10m}
overlay='' dry_run=false parts=() forward=''
for argument; do
  case $argument in
    --dry-run) dry_run=true ;;
    --no-api) parts=(-l 'app.kubernetes.io/component!=api') ;;
    -*) overlay='' && break ;;
    *) overlay=$argument ;;
  esac
done
folder=k8s/overlays/$overlay
secrets=$folder/secrets.sops.yaml

main() {
  check
  differences
  if $dry_run; then
    say 'dry run: nothing was changed'
    return
  fi
  trap 'report $?' EXIT
  say "applying $folder"
  # The Secrets need their namespace, and everything else needs the Secrets.
  kubectl apply -k "$folder" -l app.kubernetes.io/component=namespace
  # Through a pipe, and on the server's side: a client-side apply would keep a copy of the values in an annotation.
  sops decrypt "$secrets" | kubectl apply --server-side --force-conflicts -f -
  kubectl apply -k "$folder" ${parts[@]+"${parts[@]}"}
  wait_for_rollout
  if [ ${#parts[@]} -eq 0 ]; then smoke_test; fi
  say 'done'
}

check() {
  if [ -z "$overlay" ]; then
    sed -nE 's/^#   //p' "$0" >&2
    exit 2
  fi
  local tool
  for tool in kubectl sops curl base64; do
    command -v "$tool" >/dev/null || die "$tool is needed, but is not on the PATH"
  done
  [ -f "$folder/kustomization.yaml" ] || die "there is no overlay $folder. Name one of the folders in k8s/overlays"
  grep -q '^ *mac: ENC\[' "$secrets" || die "$secrets is only the example. Run scripts/secrets.sh init $overlay"
  scripts/secrets.sh check
  sops decrypt "$secrets" >/dev/null || die "this machine has no key that decrypts $secrets. Set SOPS_AGE_KEY_FILE to the file with the age key"
  say "context $(kubectl config current-context), $(kubectl config view --minify -o 'jsonpath={.clusters[0].cluster.server}')"
  kubectl get --raw=/readyz --request-timeout=30s >/dev/null || die 'the cluster is not ready or cannot be reached. Check KUBECONFIG and: kubectl config current-context'
  kubectl create --dry-run=client -k "$folder" -o name >/dev/null ||
    die "the cluster does not know all kinds of objects in $folder. Is an operator missing? See k8s/overlays/ha/README.md"
}

differences() {
  if ! kubectl get namespace "$namespace" >/dev/null 2>&1; then
    say "the namespace $namespace does not exist yet: everything is new"
    return
  fi
  # kubectl diff exits with 0 if there is no difference, 1 if there are some, more than 1 if it failed.
  kubectl diff -k "$folder" || [ $? -eq 1 ] || die 'kubectl diff failed'
}

wait_for_rollout() {
  local object objects
  # In the order in which the parts wait for each other: database, roles, schema, API.
  objects=$(kubectl get -k "$folder" ${parts[@]+"${parts[@]}"} -o name | awk '
    /^statefulset|^cluster/ { print 1, $0 } /^job.*bootstrap/ { print 2, $0 }
    /^job.*migration/ { print 3, $0 } /^deployment/ { print 4, $0 }' | sort | cut -d' ' -f2)
  for object in $objects; do
    say "waiting for $object"
    case $object in
      job*) kubectl -n "$namespace" wait --for=condition=Complete --timeout="$timeout" "$object" ;;
      cluster*) kubectl -n "$namespace" wait --for=condition=Ready --timeout="$timeout" "$object" ;;
      *) kubectl -n "$namespace" rollout status --timeout="$timeout" "$object" ;;
    esac
  done
}

# Stores a record and reads it back, through the Service. The record stays, because the API cannot delete records.
smoke_test() {
  local line url id response
  # The shell prints its process id and becomes kubectl. (A coprocess needs a newer bash than that of macOS.)
  exec 3< <(exec sh -c 'echo $$; exec kubectl -n "$0" port-forward service/sluice-api :80 2>&1' "$namespace")
  read -r forward <&3
  read -r -t 30 line <&3 || die 'the Service cannot be reached'
  [[ $line =~ ^Forwarding\ from\ ([0-9.]+:[0-9]+) ]] || die "the Service cannot be reached: $line"
  url=http://${BASH_REMATCH[1]}/v1/records
  id=$(date -u +%Y%m%dT%H%M%SZ)-$$
  call "$url" -H 'Content-Type: application/json' \
    -d "{\"source\":\"sluice-deploy\",\"type\":\"sluice.deployed\",\"id\":\"$id\"}" >/dev/null
  response=$(call "$url/sluice-deploy/$id")
  [[ $response == *"\"$id\""* ]] || die 'the stored record could not be read back'
  say "stored and read back the record sluice-deploy/$id"
}

# curl reads the key from its configuration, through a pipe: ps would show an argument.
call() {
  kubectl -n "$namespace" get secret sluice-first-key -o 'jsonpath={.data.SLUICE_BOOTSTRAP_KEY}' | base64 -d |
    sed 's/.*/header = "Authorization: Bearer &"/' |
    curl --silent --show-error --fail-with-body --max-time 30 --retry 5 --retry-all-errors --config - "$@"
}

stop_forwarding() {
  [ -n "$forward" ] || return 0
  kill "$forward" 2>/dev/null || return 0
  while kill -0 "$forward" 2>/dev/null; do sleep 0.1; done
}

report() {
  trap - EXIT
  stop_forwarding
  [ "$1" -eq 0 ] && exit 0
  {
    say "FAILED. The state of the namespace $namespace:"
    kubectl -n "$namespace" get pods,jobs,persistentvolumeclaims -o wide
    say 'the latest events'
    kubectl -n "$namespace" get events --sort-by=.lastTimestamp | tail -n 30
    local pod
    for pod in $(kubectl -n "$namespace" get pods --no-headers |
      awk '{ split($2, ready, "/") } $3 != "Completed" && (ready[1] != ready[2] || $3 != "Running") { print $1 }'); do
      say "the log of $pod"
      kubectl -n "$namespace" logs "$pod" --all-containers --prefix --tail=50
      kubectl -n "$namespace" logs "$pod" --all-containers --prefix --tail=20 --previous 2>/dev/null
    done
  } >&2 || true
  exit "$1"
}

say() { printf -- '--- %s\n' "$*"; }
die() {
  printf 'deploy.sh: %s.\n' "$*" >&2
  exit 1
}

main
