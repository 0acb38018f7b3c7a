#!/usr/bin/env bash
# The whole line on real data, as a new user would type it: scripts/demo.sh DIR
set -euo pipefail

dir=${1:-demo}
started=$SECONDS
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }

rm -rf "$dir"
say trunkline init --example flights "$dir"
cd "$dir"

say trunkline run
say trunkline compare delay --vary family
say trunkline tune delay --trials 3
say trunkline gate delay
say trunkline promote delay

printf '\n\033[1m$ trunkline serve delay --port 0 &\033[0m\n'
trunkline serve delay --port 0 >serve.log 2>&1 &
server=$!
trap 'kill -INT $server 2>/dev/null || true' EXIT
for _ in $(seq 240); do
  url=$(grep -o 'http://[0-9.]*:[0-9]*' serve.log | head -n 1 || true)
  [ -n "$url" ] && break
  kill -0 $server 2>/dev/null || { cat serve.log; exit 1; }
  sleep 0.25
done
cat serve.log
python - "$url" <<'ASK'
import json
import sys
import urllib.request

url = sys.argv[1]
with urllib.request.urlopen(f"{url}/model") as answer:
    fields = json.load(answer)["signature"]["inputs"]
row = {field["name"]: field["example"] for field in fields}
print(f"POST {url}/predict {json.dumps(row)}")
with urllib.request.urlopen(urllib.request.Request(f"{url}/predict", json.dumps(row).encode())) as answer:
    print(answer.read().decode())
ASK
kill -INT $server
wait $server
trap - EXIT

say trunkline run
say trunkline summary
echo
echo "served at $url; done in $((SECONDS - started)) s; the project is in $dir"
