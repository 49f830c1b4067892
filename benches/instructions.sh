#!/usr/bin/env bash
# What telemetry costs a request, in instructions: unlike time, they do not depend on the neighbours.
#
#   cargo build --release && cargo bench --no-run && benches/instructions.sh
#
# Needs valgrind and curl. `GET /items/{id}`, answered from the cache, on one connection; counted is what the server's
# task for that connection runs, from the bytes read to the bytes handed over, without the kernel. The servers are those
# of benches/request_cost.rs.
set -euo pipefail
cd "$(dirname "$0")/.."
release=${CARGO_TARGET_DIR:-target}/release
# The newest: older builds lie beside it.
servers=$(find "$release/deps" -name 'request_cost-*' -executable -type f -printf '%T@ %p\n' | sort -rn | awk 'NR == 1 { print $2 }')
requests=4000
work=$(mktemp -d)
trap 'jobs -p | xargs -r kill -KILL; rm -rf "$work"' EXIT

# NAME COMMAND...: counts what a request costs this server.
count() {
  local name=$1 pid address= url
  shift
  : >"$work/ready"
  valgrind --tool=callgrind --callgrind-out-file="$work/counted" --toggle-collect='*TrackedFuture*::poll*' \
    "$@" >"$work/ready" 2>"$work/log" </dev/null &
  pid=$!
  # The shop names its data plane first.
  until address=$(grep -o '127\.0\.0\.1:[0-9]*' "$work/ready" | head -n 1) && [ -n "$address" ]; do
    kill -0 "$pid" || { cat "$work/log" >&2; exit 1; }
    sleep 0.2
  done
  url="http://$address/items/1?n=[1-$requests]"
  curl -sSf -o /dev/null "$url" # fills the caches, and every table that is made for the first one
  callgrind_control --zero "$pid" >/dev/null 2>&1
  curl -sSf -o /dev/null "$url"
  callgrind_control --dump "$pid" >/dev/null 2>&1
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null || true
  awk -v name="$name" -v requests="$requests" -v bare="$bare" '/^(summary|totals):/ {
    each = $2 / requests
    printf "| %s | %.0f | %.2f |\n", name, each, bare ? each / bare : 1
    exit
  }' "$work/counted.1" | tee "$work/row"
  [ -n "$bare" ] || bare=$(awk '{ print $(NF - 3) }' "$work/row")
  rm -rf "$work"/*
}

# NAME SHARE: the real shop, of whose traces this share is kept.
count_shop() {
  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1 OTEL_TRACES_SAMPLER=parentbased_traceidratio \
    OTEL_TRACES_SAMPLER_ARG=$2 count "$1" "$release/firedrill" shop --listen 127.0.0.1:0 --control 127.0.0.1:0 \
    --payments http://127.0.0.1:1 --workers 1 --data "$work/data"
}

bare=
echo '| server | instructions a request | of `server` |'
echo '|---|---|---|'
count server "$servers" --serve server
OTEL_SDK_DISABLED=true count_shop "shop, no traces" 0
count_shop "shop, 1 % of traces" 0.01
count_shop "shop, all traces" 1
