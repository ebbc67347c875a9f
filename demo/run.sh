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

step() { printf '\n\033[1m== %s\033[0m\n' "$*" >&2; }
show() { printf '$ %s\n' "$*" >&2; "$@"; }
at_desk() { ip netns exec "$operator" "$@"; }

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
show at_desk appliance lab up "$lab"
inventory=$(at_desk appliance lab status "$lab" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["inventory"])')

step "Gapped side: install from the bundle alone"
show at_desk appliance install "$bundle" --inventory "$inventory" --trust "$out/trust/root.1.json" --state "$out/state"

step "Again: nothing is left to change"
show at_desk appliance install "$bundle" --inventory "$inventory" --trust "$out/trust/root.1.json" --state "$out/state"

step "The way out, tried from the node by hand"
at_desk appliance lab shell "$lab" -- sh -c '
    ping -c 1 -W 2 "$(ip -4 -o addr show scope global | sed "s/.*inet \([0-9.]*\)\.[0-9]*\/.*/\1/").1" || true
    ip route; ip -6 route' || true

step "The model, asked on the node"
at_desk appliance lab shell "$lab" -- python3 -c '
import json, urllib.request
question = {"model": "demo", "messages": [{"role": "user", "content": "Where was this computed?"}]}
request = urllib.request.Request("http://127.0.0.1:8000/v1/chat/completions", json.dumps(question).encode(),
                                 {"Content-Type": "application/json"})
print(json.load(urllib.request.urlopen(request, timeout=30))["choices"][0]["message"]["content"])'
