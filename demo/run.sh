#!/usr/bin/env bash
# The whole story in one terminal. Expects the folder of the built programs as its argument; makes everything else itself.
set -euo pipefail

bin=${1:?usage: demo/run.sh FOLDER_OF_PROGRAMS [PYTHON]}
python=${2:-python3}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/strongroom-demo.XXXXXX")
api_key=sample-weather-key-7c1b52f0e94d4d0a # stands in demo/bitwarden-sample.json
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '\033[2m$ strongroom %s\033[0m\n' "$*"; strongroom "$@"; }
strongroom() { "$bin/strongroom" "$@"; }
until_there() { # file
    for _ in $(seq 200); do [ -e "$1" ] && return 0; sleep 0.05; done
    echo "demo: $1 did not appear" >&2
    exit 1
}

export STRONGROOM_HOME=$work/home STRONGROOM_SOCKET=$work/strongroom.sock
printf 'correct horse battery staple demonstration\n' >"$work/passphrase"
chmod 600 "$work/passphrase"
export STRONGROOM_PASSPHRASE_FILE=$work/passphrase

step "A server for this machine"
"$bin/strongroom" serve --data "$work/data" --shares "$work/shares" >"$work/serve.log" 2>&1 &
pids+=($!)
until_there "$STRONGROOM_SOCKET"
echo "serving"

step "A vault, and what is in a Bitwarden export"
show create --device-name demo --phrase-to-file "$work/kit.txt"
show import "$here/bitwarden-sample.json" --dry-run
show import "$here/bitwarden-sample.json"
show item list

step "A local HTTPS API that wants a key, and echoes what it was sent"
"$python" "$here/api.py" "$work" "$api_key" &
pids+=($!)
until_there "$work/port"
port=$(cat "$work/port")
show item edit "Example Weather API" --host "localhost:$port" --place bearer --allow-private --roots "$work/ca.pem"

step "An agent with a key file of its own, which is asked about each time"
show guest add helper --key-file "$work/helper.json"
show grant add --guest helper "Example Weather API" http --method GET --path /v1 --mode ask

step "The agent, through the official MCP client: it never has the key"
"$python" "$here/agent.py" "$bin/strongroom" "$work/helper.json" "$port" >"$work/agent.log" 2>&1 &
agent=$!
pids+=("$agent")
approval=
for _ in $(seq 100); do
    approval=$(strongroom approvals list --json | "$python" -c 'import json,sys; rows=json.load(sys.stdin); print(rows[0]["id"] if rows else "")')
    [ -n "$approval" ] && break
    sleep 0.1
done
[ -n "$approval" ] || { cat "$work/agent.log"; echo "demo: the agent asked nothing" >&2; exit 1; }
echo "-- what the member sees, and answers with the passphrase:"
show approvals answer "$approval" --allow
wait "$agent"
cat "$work/agent.log"

step "No trace of the key on the agent's side"
if grep -q "$api_key" "$work/agent.log" "$work/serve.log"; then
    echo "demo: the key leaked" >&2
    exit 1
fi
grep -q 'celsius' "$work/agent.log" || { echo "demo: the agent got no answer" >&2; exit 1; }
echo "the answer came, the echoed key is masked, and neither the agent's nor the server's output holds it"

step "What happened, and a proof of it for someone without a vault"
show log tail --lines 12 --no-follow
show audit verify
index=$(strongroom audit list --json | "$python" "$here/last_use.py")
strongroom audit prove "$index" >"$work/proof.json"
STRONGROOM_HOME=$work/nobody "$bin/strongroom" audit check-proof "$work/proof.json"

step "Done"
echo "The vault of this demonstration is removed now. Yours begins with: make run"
