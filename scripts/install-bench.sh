#!/bin/sh
# Install what `make bench` compares with: the packages of bench-packages.txt that are missing, and
# those of bench-requirements.txt in a virtual environment of their own, whose libraries need not agree
# with ours.  Usage: scripts/install-bench.sh PYTHON VENV
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
