#!/bin/sh
# Sets up the program `appliance` from the bundle it lies in: no network, no pip, nothing but python3.
# The same bytes in every bundle of format 1.  Guide: docs/bootstrap.md.
#
# Signatures come first.  Then the toolkit is copied from the medium, the copies are compared with the signed
# list, and only the copies are used: nothing of the medium runs before it is known to be what was signed, and
# a medium that answers differently when it is asked again is not asked again.
#
# All of it is functions until the last line: a script that is cut off does nothing.

usage() {
    cat <<'TEXT'
Usage: sh bootstrap.sh --signers FILE --fingerprint HEX --threshold N [OPTION...] [DIR...]
       sh bootstrap.sh --unverified [OPTION...] [DIR...]

Set up the program `appliance` from a bundle: no network, no pip, python3 and nothing else. Nothing is written
to the bundle; it may lie on a read-only medium.

  DIR...             the bundle, or its volumes if the toolkit lies on several of them;
                     left out: the folder this script lies in

  --signers FILE     the holders' public keys, brought by another way than this medium: root.1.allowed_signers
  --fingerprint HEX  that file's SHA-256, typed from your paper
  --threshold N      how many holders must have signed, from the same paper
  --sha BITS         384 if the same paper names the profile cnsa: what is signed then is trust/SHA384SUMS.
                     Default: 256
  --unverified       ask for no signature: the bundle was verified before, on this very medium
  --to FOLDER        where to; must not exist yet. Default: /opt/appliance/toolkit
  --python PROGRAM   the Python to use. Default: python3
  -h, --help         this text

This script came with the bundle, and whoever can forge a bundle can forge this script, its checks and these
words. Before you run it, type steps 0, 1 and 3 of VERIFY.txt from your own paper, and compare the digest of
bootstrap.sh with the one in trust/SHA256SUMS (with 384 for 256 where your paper names the profile cnsa):
    grep '  bootstrap\.sh$' trust/SHA256SUMS | sha256sum --check
Or run a copy of it that you had before: sh my/bootstrap.sh --signers ... DIR
It checks the signatures, itself and the toolkit's files. Not the rest: `appliance verify` does that.

Examples:
  sh /media/usb/demo/bootstrap.sh --signers root.1.allowed_signers --fingerprint 3f1c... --threshold 2
  sh /media/usb/demo/bootstrap.sh --unverified --to ~/appliance

Exit codes:
  0  done; the program's path is the one line on stdout      2  the command line is wrong
  4  the bundle must not be used                             5  this system is not ready, or cannot be used
TEXT
}

refuse() { # exit code, what failed, then lines of what was found and wanted and what to do
    code=$1 ended=yes
    printf 'error: %s\n' "$2" >&2
    shift 2
    for line; do
        printf '  %s\n' "$line" >&2
    done
    exit "$code"
}

note() { printf '%s\n' "$*" >&2; }

# Text of others on one line, without anything that a terminal would act on.
tame() { tr '\n' ' ' <"$1" | cat -v | cut -c 1-400; }

# --- the command line -------------------------------------------------------------------------------

need_value() {
    [ "$1" -gt 1 ] || refuse 2 "the option $2 needs a value" "do: sh bootstrap.sh --help"
}

check_options() {
    case $sha in
        256) digits=64 ;;
        384) digits=96 ;;
        *) refuse 2 "there is no such list" "found: --sha $sha" "wanted: 256, or 384 as your paper says" ;;
    esac
    sums=SHA${sha}SUMS
    if [ -n "$unverified" ]; then
        [ -z "$signers$fingerprint$threshold" ] \
            || refuse 2 "--unverified asks for no signature, and signers, fingerprint or threshold are given" \
                "do: leave out one or the other"
        return
    fi
    if [ -z "$signers" ] || [ -z "$fingerprint" ] || [ -z "$threshold" ]; then
        refuse 2 "is this bundle genuine? Say how to find out" \
            "wanted: --signers FILE --fingerprint HEX --threshold N, or --unverified if it was verified before" \
            "do: sh bootstrap.sh --help"
    fi
    fingerprint=$(printf '%s' "$fingerprint" | tr A-F a-f)
    case ${#fingerprint}:$fingerprint in
        64:*[!0-9a-f]*) refuse 2 "the fingerprint is not one" "wanted: hex digits only" ;;
        64:*) ;;
        *) refuse 2 "the fingerprint is not one" "found: ${#fingerprint} characters" "wanted: 64 hex digits" ;;
    esac
    case $threshold in
        *[!0-9]* | 0* | ???*) refuse 2 "the threshold is not one" "found: $threshold" "wanted: 1 or more" ;;
    esac
    if [ ! -f "$signers" ] || [ ! -r "$signers" ]; then
        refuse 2 "the file of signers cannot be read" "found: $signers" "wanted: root.1.allowed_signers"
    fi
}

need() { # program, package
    command -v "$1" >/dev/null || refuse 5 "$1 is not installed here" "wanted: package $2" \
        "do: install it from the system's own installation medium, or use another computer"
}

need_tools() {
    need sha256sum coreutils
    need "sha${sha}sum" coreutils
    need "$python" python3
    if [ -z "$unverified" ]; then
        need ssh-keygen openssh-client
        id -un >/dev/null 2>&1 \
            || refuse 5 "ssh-keygen refuses accounts that the system does not know" "found: user $(id -u)" \
                "do: use an account that is in the system's user list"
    fi
}

# --- the folder to set up: there whole or not at all ------------------------------------------------

make_folder() {
    while [ "${to%/}" != "$to" ]; do to=${to%/}; done
    parent=${to%/*}/
    trap clean_up EXIT
    trap 'interrupted 129' HUP
    trap 'interrupted 130' INT
    trap 'interrupted 141' PIPE
    trap 'interrupted 143' TERM
    if [ ! -d "$parent" ]; then
        made_parent=yes
        problem=$(mkdir -- "$parent" 2>&1) || cannot_make "$problem"
    fi
    place=$(cd -- "$parent" && pwd)
    to=${place%/}/${to##*/}
    work=$to/.unfinished
    case $to in
        *[[:cntrl:]:\"\`\$\\]*)
            refuse 2 "programs cannot be set up under this name" "found: $(printf '%s' "$to" | cat -v)" \
                "wanted: a path without : \" \` \$ \\ and control characters"
            ;;
    esac
    if [ -e "$work" ]; then
        refuse 2 "$to is unfinished" "found: another run that is at work there, or that was cut off" \
            "do: if none is at work, remove the folder, and run this again: rm -r $(quoted "$to")"
    elif [ -e "$to" ] || [ -L "$to" ]; then
        refuse 2 "$to exists already" "wanted: a new folder" "do: remove it, or name another with --to"
    fi
    problem=$(mkdir -- "$to" 2>&1) || cannot_make "$problem"
    made_folder=yes
    mkdir -- "$work"
    printf '#!/bin/sh\n' >"$work/probe"
    chmod +x "$work/probe"
    "$work/probe" 2>/dev/null \
        || refuse 5 "no program may run under $to" "found: a disk mounted noexec" \
            "do: name a folder on another disk with --to"
}

cannot_make() {
    refuse 5 "the folder cannot be made" "found: $1" \
        "do: name another with --to, under a folder that exists and is yours: --to ~/appliance"
}

interrupted() {
    ended=yes
    note "interrupted; nothing was kept"
    exit "$1"
}

clean_up() {
    status=$?
    trap '' HUP INT PIPE TERM
    trap - EXIT
    if [ -z "$ended" ]; then
        note "error: the set-up failed, for the reason above; nothing was kept"
        status=5
    fi
    if [ -n "$made_folder" ]; then
        cd / && rm -rf -- "$to"
    fi
    if [ -n "$made_parent" ]; then
        rmdir -- "$parent" 2>/dev/null || true
    fi
    exit "$status"
}

check_room() {
    free=$(df -k --output=avail -- "$to" | tail -n 1 | tr -d ' ')
    [ "$free" -ge "$NEEDED_KIB" ] \
        || refuse 5 "the disk of $to is too small" "found: $((free / 1024)) MB free" \
            "wanted: $((NEEDED_KIB / 1024)) MB" "do: free some space, or name another folder with --to"
}

# --- what was signed --------------------------------------------------------------------------------

take_list() {
    for volume; do
        if [ -f "$volume/trust/$sums" ]; then
            bundle=$volume
            # No list of format 1 is longer.
            head -c 67108864 -- "$bundle/trust/$sums" >"$work/list" \
                || refuse 5 "trust/$sums cannot be copied" \
                    "do: if the medium cannot be read, use another copy; if the disk is full, another --to"
            return
        fi
    done
    for volume; do
        [ ! -f "$volume/trust/SHA256SUMS" ] || refuse 4 "this bundle has no list of the kind your paper names" \
            "found: trust/SHA256SUMS alone" "wanted: trust/$sums" \
            "do: do not use this bundle, keep the medium, and tell its senders"
    done
    refuse 4 "there is no bundle" "found: no trust/$sums in $1" \
        "wanted: the folder that holds manifest.json; this script lies there" \
        "do: sh bootstrap.sh ... DIR"
}

nobody_signed() {
    [ "$sha" -ne 256 ] || [ ! -f "$bundle/trust/SHA384SUMS" ] \
        || refuse 4 "nobody signed trust/SHA256SUMS of this bundle" "found: trust/SHA384SUMS, another list" \
            "do: if your paper names the profile cnsa, say so: --sha 384"
    refuse 4 "nobody signed this bundle" "wanted: $threshold signatures"
}

check_signatures() {
    cp -- "$signers" "$work/signers"
    found=$(sha256sum <"$work/signers")
    [ "${found%% *}" = "$fingerprint" ] \
        || refuse 4 "these are not the signers your paper names" "found: sha256 ${found%% *}" \
            "wanted: sha256 $fingerprint" "do: compare every digit; if they differ, ask the holders in person"
    : >"$work/good"
    for signature in "$bundle/trust/$sums".*.sig; do
        [ -f "$signature" ] || nobody_signed
        holder=${signature##*/"$sums".}
        holder=${holder%.sig}
        case $holder in
            *[!a-z0-9-]*) refuse 4 "a signature has a name that no holder can have" ;;
        esac
        ssh-keygen -Y verify -f "$work/signers" -I "$holder" -n release@appliance -s "$signature" \
            <"$work/list" >"$work/said" 2>&1 \
            || refuse 4 "the signature of $holder is not good" "found: $(tame "$work/said")" \
                "do: do not use this bundle, keep the medium, and tell its senders"
        cat "$work/said" >>"$work/good"
        note "good signature of $holder"
    done
    keys=$(sed -n 's/^Good .* key //p' "$work/good" | sort -u | grep -c .) || true
    [ "$keys" -ge "$threshold" ] \
        || refuse 4 "too few holders signed" "found: $keys different keys" "wanted: $threshold" \
            "do: do not use this bundle before the others have signed it"
}

# --- the toolkit ------------------------------------------------------------------------------------

# The signed lines of the toolkit's files and of this script go to $work/wanted; names of plain files only.
find_toolkit() {
    program="^[0-9a-f]\\{$digits\\}  \\(payload/[a-z0-9-]*\\)/$PROGRAM_WHEEL\$"
    sed -n "s|$program|\\1|p" "$work/list" >"$work/toolkits"
    [ "$(grep -c . "$work/toolkits")" -eq 1 ] \
        || refuse 4 "the list names no toolkit, or more than one" \
            "wanted: one payload/.../appliance-...-py3-none-any.whl" "do: use a bundle with a toolkit"
    toolkit=$(cat "$work/toolkits")
    itself="^[0-9a-f]\\{$digits\\}  bootstrap\\.sh\$"
    grep -q -e "$itself" "$work/list" \
        || refuse 4 "the list does not name bootstrap.sh" "do: do not use what nobody signed"
    grep -e "^[0-9a-f]\\{$digits\\}  $toolkit/[A-Za-z0-9._+~@=-]*\$" -e "$itself" "$work/list" >"$work/wanted"
}

# Copy what is wanted, from whichever volume has it, and compare the copies.
take_toolkit() {
    mkdir -p -- "$work/$toolkit"
    : >"$work/missing"
    while read -r _ name; do
        for volume; do
            if [ -f "$volume/$name" ]; then
                cp -- "$volume/$name" "$work/$name" 2>"$work/said" \
                    || refuse 5 "a file of the toolkit cannot be copied" "found: $(tame "$work/said")" \
                        "do: if the medium cannot be read, use another copy; if the disk is full, another --to"
                continue 2
            fi
        done
        printf '%s\n' "$name" >>"$work/missing"
    done <"$work/wanted"
    if [ -s "$work/missing" ]; then
        missing_files "$@"
    fi
    for volume; do
        [ ! -d "$volume/$toolkit" ] || (cd -- "$volume/$toolkit" && find . -mindepth 1)
    done | sed "s|^\\.|$toolkit|" | sort -u >"$work/found"
    sed 's/^[0-9a-f]*  //' "$work/wanted" | sort | comm -23 "$work/found" - >"$work/said"
    [ ! -s "$work/said" ] \
        || refuse 4 "nobody signed these files of the toolkit" "found: $(tame "$work/said")" \
            "do: do not use this bundle, keep the medium, and tell its senders"
    (cd -- "$work" && "sha${sha}sum" --strict --quiet --check wanted) >"$work/said" 2>/dev/null \
        || refuse 4 "these files are not what was signed" "found: $(tame "$work/said")" \
            "do: use another copy of the bundle, or mend this one elsewhere: appliance media repair"
}

# How many volumes the label speaks of; nobody signed it.
volumes_of() { grep -o '"first":' "$1/volume.json" 2>/dev/null | grep -c . || true; }

missing_files() {
    all=$(grep -c . "$work/wanted")
    lost=$(grep -c . "$work/missing")
    for volume; do
        [ -f "$volume/volume.json" ] || continue
        number=$(sed -n 's/.*"number":\([0-9]\{1,3\}\),.*/\1/p' "$volume/volume.json" | head -n 1)
        refuse 4 "$toolkit is not on this volume, or not all of it" \
            "found: volume ${number:-?} of $(volumes_of "$volume"), which lacks $lost of $all files to set up" \
            "do: run it from another volume, or name several: sh bootstrap.sh ... DIR DIR"
    done
    refuse 4 "files of the toolkit are missing" "found: $(tame "$work/missing")" \
        "do: use another copy of the bundle, or mend this one elsewhere: appliance media repair"
}

# --- Python -----------------------------------------------------------------------------------------

check_python() {
    version=$("$python" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>"$work/said") \
        || refuse 5 "$python does not run" "found: $(tame "$work/said")"
    pythons=$(sed -n "s|.*  $toolkit/requirements-\\(3\\.[0-9]*\\)\\.txt\$|\\1|p" "$work/wanted" | tr '\n' ' ')
    pythons=${pythons% }
    case "$version/ $pythons " in
        *"/ "*"$version "*) ;;
        3.10/*)
            refuse 5 "this system can be a node but not a controller" "found: Python 3.10" \
                "wanted: Python $pythons" "do: run the installation from another computer"
            ;;
        *)
            refuse 5 "this medium has no wheels for the Python of this system" "found: Python $version" \
                "wanted: Python $pythons" "do: use another computer, or another Python of this one with --python"
            ;;
    esac
    "$python" -I -c 'import email, venv, zlib' 2>"$work/said" \
        || refuse 5 "$python is incomplete" "found: $(tame "$work/said")" \
            "do: install the whole package python3, not python3-minimal, from the system's installation medium"
    machine=$(uname -m)
    grep -q "linux_[0-9_]*$machine\\.whl\$" "$work/wanted" \
        || refuse 5 "this medium has no wheels for this kind of computer" "found: $machine"
}

set_up() {
    "$python" -I -m venv --without-pip -- "$to" >"$work/said" 2>&1 \
        || refuse 5 "no environment for Python can be made" "found: $(tame "$work/said")"
    set -- "$work/$toolkit"/pip-*.whl
    # Nobody's pip configuration takes part; what pip unpacks stays on the disk that was measured.
    PIP_CONFIG_FILE=/dev/null TMPDIR=$work "$to/bin/python" -I "$1/pip" --isolated \
        --disable-pip-version-check --no-cache-dir --no-input --quiet install --no-index --no-deps --no-compile \
        --require-hashes --find-links "$work/$toolkit" --requirement "$work/$toolkit/requirements-$version.txt" \
        >"$work/said" 2>&1 \
        || refuse 5 "the wheels cannot be installed" "found: $(tame "$work/said")"
    # On all cores, as pip does not.  What is left out here is compiled at each start.
    "$to/bin/python" -I -m compileall -q -j 0 "$to/lib" >/dev/null 2>&1 || true
    "$to/bin/appliance" --version >"$work/said" 2>&1 \
        || refuse 5 "the program was set up and does not start" "found: $(tame "$work/said")"
    rm -rf -- "$work"
    ended=yes made_folder='' made_parent=''
}

# --- saying what is next ----------------------------------------------------------------------------

quoted() { # one word for a shell, in quotes only where it needs them
    case $1 in
        *[!A-Za-z0-9/._+~@=,-]*) printf "'" && printf '%s' "$1" | sed "s/'/'\\\\''/g" && printf "'" ;;
        *) printf '%s' "$1" ;;
    esac
}

say_next() {
    command=$(quoted "$to/bin/appliance")
    places=
    for volume; do places="$places $(quoted "$volume")"; done
    if [ -n "$unverified" ]; then
        note "Set up, but no signature was checked: these are the files of a list that anybody could have written."
    else
        note "Set up: itself and the toolkit are what $keys holders signed. The rest of the bundle was not read."
    fi
    note "Next, with the root file that the holders gave you, every byte and then the nodes:"
    [ "$(volumes_of "$1")" -le $# ] || note "  (the bundle lies on $(volumes_of "$1") volumes: name all of them)"
    note "  $command verify$places --trust root.1.json --fingerprint HEX"
    note "  $command install$places --inventory SITE --trust root.1.json --fingerprint HEX"
    printf '%s\n' "$to/bin/appliance"
}

main() {
    set -eu
    umask 022
    unset CDPATH
    export LC_ALL=C
    NEEDED_KIB=163840
    PROGRAM_WHEEL='appliance-[0-9A-Za-z.+_]*-py3-none-any\.whl'
    signers='' fingerprint='' threshold='' sha=256 unverified='' to=/opt/appliance/toolkit python=python3
    ended='' made_folder='' made_parent=''
    while [ $# -gt 0 ]; do
        case $1 in
            --*=*)
                option=$1
                shift
                set -- "${option%%=*}" "${option#*=}" "$@"
                ;;
            --signers) need_value $# "$1" && signers=$2 && shift 2 ;;
            --fingerprint) need_value $# "$1" && fingerprint=$2 && shift 2 ;;
            --threshold) need_value $# "$1" && threshold=$2 && shift 2 ;;
            --sha) need_value $# "$1" && sha=$2 && shift 2 ;;
            --to) need_value $# "$1" && to=$2 && shift 2 ;;
            --python) need_value $# "$1" && python=$2 && shift 2 ;;
            --unverified) unverified=yes && shift ;;
            -h | --help) usage && exit 0 ;;
            -*) refuse 2 "there is no option $1" "do: sh bootstrap.sh --help" ;;
            *) break ;;
        esac
    done
    check_options
    need_tools
    case $to in
        /*) ;;
        *) to=$PWD/$to ;;
    esac
    if [ $# -eq 0 ]; then
        case $0 in
            */*) set -- "${0%/*}/" ;;
            *) set -- . ;;
        esac
    fi
    for volume; do # full paths: what is printed at the end is used elsewhere
        place=$(cd -- "$volume" 2>/dev/null && pwd) || refuse 2 "this is not a folder" "found: $volume"
        shift
        set -- "$@" "$place"
    done
    make_folder
    check_room
    take_list "$@"
    [ -n "$unverified" ] || check_signatures
    find_toolkit
    check_python
    take_toolkit "$@"
    set_up
    say_next "$@"
}

main "$@"
