#!/bin/sh
# Install what `make bench` compares with: the packages of bench-packages.txt that are missing, and
# those of bench-requirements.txt in a virtual environment of their own, whose libraries need not agree
# with ours; and desync beside them, from Debian testing.  Usage: scripts/install-bench.sh PYTHON VENV
set -eu

python=$1
venv=$2
cd "$(dirname "$0")/.."

missing=
# shellcheck disable=SC2013 # names of packages are words
for package in $(sed 's/#.*//' bench-packages.txt); do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    echo "installing system packages to compare with:$missing"
    apt-get update --quiet --quiet
    # shellcheck disable=SC2086 # a list of package names
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet --no-install-recommends $missing
fi

echo "installing Python packages to compare with into $venv"
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement bench-requirements.txt

# desync is in no stable release of Debian yet.  Its package comes from testing, by the mirror this system
# has its own packages from, with sources, lists and cache of its own: the system's stay as they are.
echo "fetching desync from Debian testing into $venv"
# shellcheck disable=SC2016 # the field is apt's
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' | sort --unique | head -n 1)
if [ -z "$mirror" ]; then
    echo "this system has no source of Debian packages, and desync comes from there" >&2
    exit 1
fi
apt=$(mktemp --directory)
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/parts"
: >"$apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror testing main" >"$apt/sources.list"
own() {
    apt-get --quiet --quiet --option APT::Sandbox::User=root --option Dir::State="$apt/state" \
        --option Dir::State::status="$apt/status" --option Dir::Cache="$apt/cache" \
        --option Dir::Etc::sourcelist="$apt/sources.list" --option Dir::Etc::sourceparts="$apt/parts" "$@"
}
own update
(cd "$apt" && own download desync)
dpkg-deb --extract "$apt"/desync_*.deb "$apt/tree"
cp "$apt/tree/usr/bin/desync" "$venv/bin/desync"
dpkg-deb --field "$apt"/desync_*.deb Version >"$venv/bin/desync.version"
"$venv/bin/desync" info --help >/dev/null
