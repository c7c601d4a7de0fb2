#!/usr/bin/env bash
# A coordinator, two workers and Redis as processes of their own. The job runs twice; the workers are
# restarted in between, so that what is remembered can only come from Redis. Both results are compared
# with the embedded engine's, byte for byte.
set -euo pipefail
cd "$(dirname "$0")/.."
graticule=${1:-target/release/graticule}
out=cluster-demo
rm -rf "$out" && mkdir -p "$out"
export GRATICULE_DATA=$out/data

pids=()
workers=()
stop() { for pid in "${workers[@]}" "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait 2>/dev/null || true; }
trap stop EXIT

# Prints the first line of a file that matches, once there is one; gives up when the process has ended.
await() { # FILE PATTERN PID
  local deadline=$((SECONDS + 20))
  until grep -m1 -oE "$2" "$1" 2>/dev/null; do
    if ! kill -0 "$3" 2>/dev/null || [ $SECONDS -ge $deadline ]; then
      echo "did not start:" >&2; cat "$1" >&2; exit 1
    fi
    read -rt 0.05 <> <(:) || true
  done
}

redis=""
for port in $((20000 + RANDOM % 10000)) $((20000 + RANDOM % 10000)) $((20000 + RANDOM % 10000)); do
  redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$out" >"$out/redis.log" 2>&1 &
  pid=$!
  if (await "$out/redis.log" 'Ready to accept connections' "$pid") >/dev/null 2>&1; then
    pids+=("$pid"); redis=redis://127.0.0.1:$port; break
  fi
done
[ -n "$redis" ] || { echo "redis-server did not start, see $out/redis.log" >&2; exit 1; }
echo "redis        $redis"

"$graticule" catalog add examples/colorado >/dev/null
"$graticule" coordinator --listen 127.0.0.1:0 >"$out/coordinator.log" 2>&1 &
pids+=($!)
endpoint=$(await "$out/coordinator.log" 'http://[0-9.:]+' $!)
echo "coordinator  $endpoint"

start_workers() {
  workers=()
  for n in 1 2; do
    "$graticule" worker --coordinator "$endpoint" --slots 1 --cache "$redis" >"$out/worker$n-$1.log" 2>&1 &
    workers+=($!)
    echo "worker $n     $(await "$out/worker$n-$1.log" 'http://[0-9.:]+' $!)"
  done
}
job=(compute examples/ndvi_median.graft.json --bounds 336375,4460595,338205,4462425 --crs EPSG:32613 --resolution 30 --tile-size 16)

start_workers first
echo; echo "first run: nothing is remembered"
"$graticule" "${job[@]}" --endpoint "$endpoint" --out "$out/first.tif" --out "$out/first.npz"
kill "${workers[@]}"; wait "${workers[@]}" 2>/dev/null || true
echo; echo "the workers are replaced"
start_workers second
echo; echo "second run: tiles come from Redis"
"$graticule" "${job[@]}" --endpoint "$endpoint" --out "$out/second.tif" --out "$out/second.npz" | tee "$out/second.txt"
grep -qE '[1-9][0-9]* of [0-9]+ cache look-ups hit' "$out/second.txt" || { echo "no cache hit" >&2; exit 1; }
echo; echo "embedded engine"
"$graticule" "${job[@]}" --out "$out/embedded.tif" --out "$out/embedded.npz"
echo
for file in first second; do
  for kind in tif npz; do
    cmp "$out/$file.$kind" "$out/embedded.$kind"
  done
done
echo "all three results are the same, byte for byte"
