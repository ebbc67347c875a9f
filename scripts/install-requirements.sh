#!/bin/sh
# Install what the Makefile needs: the system packages of system-packages.txt that are missing, and a
# virtual environment with this project in it.  Addresses come from the machine's own apt and pip
# configuration.  Usage: scripts/install-requirements.sh VENV
set -eu

venv=$1
cd "$(dirname "$0")/.."

missing=
# shellcheck disable=SC2013 # words are what is wanted: names of packages have no spaces
for package in $(sed 's/#.*//' system-packages.txt); do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "error: these system packages are missing:$missing" >&2
        echo "  do: run make as root, or install them: apt-get install$missing" >&2
        exit 5
    fi
    echo "installing system packages:$missing"
    apt-get update --quiet --quiet
    # shellcheck disable=SC2086 # a list of package names
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet --no-install-recommends $missing
fi

python=
for candidate in python3 python3.13 python3.12 python3.11 python3.14; do
    if "$candidate" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "error: no Python from 3.11 to 3.14 here" >&2
    echo "  found: $(python3 --version 2>&1)" >&2
    echo "  do: install one, with its venv module (Ubuntu 22.04: apt-get install python3.11-venv)" >&2
    exit 5
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "installing Python packages into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[station,kafka,s3,dev]'
