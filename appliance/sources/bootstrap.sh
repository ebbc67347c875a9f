#!/bin/sh
# Sets up the program `appliance` from this folder.  Needs python3 and nothing else: no network, no pip.
#
#   sh bootstrap.sh [FOLDER]       FOLDER must not exist yet; default /opt/appliance/toolkit
#
# Verify the medium first: see VERIFY.txt at its top.
set -eu
umask 022

wanted=@PYTHON@
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
folder=${1:-/opt/appliance/toolkit}

found=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$found" != "$wanted" ]; then
    echo "error: these wheels are for Python $wanted, python3 here is $found" >&2
    exit 5
fi
if [ -e "$folder" ]; then
    echo "error: $folder exists already; name another folder, or remove it" >&2
    exit 2
fi

# Built beside its final name's folder it would carry wrong paths; so: in place, and removed on failure.
trap 'rm -rf -- "$folder"' EXIT
trap 'exit 130' INT TERM
python3 -m venv --without-pip "$folder"
for pip in "$here"/pip-*.whl; do
    "$folder/bin/python" -I "$pip/pip" --isolated --disable-pip-version-check --no-cache-dir --quiet \
        install --no-index --no-deps --require-hashes --find-links "$here" \
        --requirement "$here/requirements.txt"
done
"$folder/bin/appliance" --version >/dev/null
trap - EXIT
echo "$folder/bin/appliance"
