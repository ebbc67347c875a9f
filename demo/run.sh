#!/bin/sh
# `make demo`: the whole line on one machine, with a practice node instead of a rack.
#
# 1. connected   lock, build, two holders sign, verify
# 2. cut off     a network namespace with nothing in it but the practice node
# 3. gapped      install from the bundle alone; show that the way out is dead and the model answers
set -eu

out=${DEMO_OUT:-out/demo}
lab=demo
operator=appliance-demo # the operator's side: a network namespace without any other interface
bundle=$out/bundle
PYTHON=${PYTHON:-python3}

step() { printf '\n\033[1m== %s\033[0m\n' "$*" >&2; }
show() { printf '$ %s\n' "$*" >&2; "$@"; }
at_desk() { ip netns exec "$operator" "$@"; } # beside the rack: nothing else can be reached from there
show_at_desk() { printf 'desk$ %s\n' "$*" >&2; at_desk "$@"; }

cleanup() {
    status=$?
    trap - EXIT INT TERM
    at_desk appliance lab down "$lab" >/dev/null 2>&1 || appliance lab down "$lab" || true
    ip netns delete "$operator" 2>/dev/null || true
    exit "$status"
}

[ "$(id -u)" -eq 0 ] || { echo "error: the demo boots a practice node: run it as root" >&2; exit 2; }
trap cleanup EXIT
trap 'exit 130' INT TERM

rm -rf "$out"
mkdir -p "$out/keys"

step "Two release keys, and a root that wants both"
for holder in alice bob; do
    ssh-keygen -q -t ed25519 -N '' -C "$holder@example" -f "$out/keys/$holder"
done
show appliance trust init --holder "alice=$out/keys/alice.pub" --holder "bob=$out/keys/bob.pub" \
    --threshold release=2 --out "$out/trust"

step "Connected side: pin every artefact, then fetch exactly what was pinned"
show appliance lock bundles/demo.yaml --out "$out/demo.lock.json"
show appliance build bundles/demo.yaml --lock "$out/demo.lock.json" --root "$out/trust/root.1.json" --out "$bundle"
for holder in alice bob; do
    show appliance sign "$bundle" --key "$out/keys/$holder" --role release
done

step "Review: signatures first, then every byte"
show appliance verify "$bundle" --trust "$out/trust/root.1.json"

step "A practice node, and a desk with no way out of the room"
appliance lab prepare
ip netns delete "$operator" 2>/dev/null || true
ip netns add "$operator"
ip -netns "$operator" link set lo up
show_at_desk appliance lab up "$lab" --json > "$out/lab.json"
inventory=${APPLIANCE_LAB_FOLDER:-/var/lib/appliance-lab}/$lab/inventory

step "Gapped side: install from the bundle alone"
show_at_desk appliance install "$bundle" --inventory "$inventory" --trust "$out/trust/root.1.json" --state "$out/state"

step "Again: nothing is left to change"
show_at_desk appliance install "$bundle" --inventory "$inventory" --trust "$out/trust/root.1.json" \
    --state "$out/state" --json > "$out/second.json"
"$PYTHON" - "$out/second.json" <<'SCRIPT'
import json, sys
for name, node in json.load(open(sys.argv[1]))["nodes"].items():
    print(f"{name}: {node['apply']['changed']} changed, {node['apply']['ok']} ok")
SCRIPT

report=$(ls "$out"/state/runs/*/*/report/report.txt)
step "Every way out, tried before the installation and now (from the report)"
sed -n '/^THE WAY OUT/,/^THE WAY IN/p' "$report" | sed '$d'

step "The model, asked on the node"
at_desk appliance lab shell "$lab-01" -- python3 -c '
import json, urllib.request
question = {"model": "demo", "messages": [{"role": "user", "content": "Where was this computed?"}]}
request = urllib.request.Request("http://127.0.0.1:8000/v1/chat/completions", json.dumps(question).encode(),
                                 {"Content-Type": "application/json"})
print(json.load(urllib.request.urlopen(request, timeout=30))["choices"][0]["message"]["content"])'

printf '\nreport: %s\n' "$report"
