"""What people use today to carry files and know that they arrived: how to run each of them.

A ``Peer`` is shell command lines, run by ``sh -eu`` with these variables:

- ``$P`` the payload, ``$M`` an empty folder that stands for the medium, ``$K`` keys and certificates,
  ``$W`` a folder to work in;
- ``$KEY`` whose key in ``$K`` signs: ``own``, which the receiver trusts, or ``stranger``;
- ``$APPLIANCE`` our program, ``$PEERS`` the folder of the programs that pip installed.

``create`` brings the payload onto the medium, ready to be carried.  ``verify`` ends with 0 if it accepts
what lies there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Keys as the tools want them: PEM for model-signing and rauc, OpenSSH's for ours; a stranger's too.
KEYS: Final = """
for name in own stranger; do
    openssl ecparam -name prime256v1 -genkey -noout -out "$K/$name.pem"
    openssl ec -in "$K/$name.pem" -pubout -out "$K/$name.pub.pem"
    openssl req -x509 -key "$K/$name.pem" -out "$K/$name.crt" -subj "/CN=$name" -days 3650
    ssh-keygen -q -t ed25519 -N '' -C "$name@bench" -f "$K/$name"
    "$APPLIANCE" trust init --out "$K/$name-root" --solo --holder "$name=$K/$name.pub"
done"""


@dataclass(frozen=True)
class Peer:
    """One way of carrying files; ``version`` is a command line that prints it."""

    name: str
    version: str
    create: str
    verify: str
    repair: str = ""
    signed: bool = False


_DPKG: Final = "dpkg-query --show --showformat='${Version}' "
_PIP: Final = '"$PEERS/python" -c "import importlib.metadata as m; print(m.version(\'%s\'))"'
_VERIFY_OURS: Final = '"$APPLIANCE" verify "$M/bundle" --trust "$K/own-root/root.1.json"'
_CREATE_OURS: Final = (
    '"$APPLIANCE" build "$W/%s/bench.yaml" --out "$M/bundle" --store "$W/store" '
    '--root "$K/$KEY-root/root.1.json"; '
    '"$APPLIANCE" sign "$M/bundle" --key "$K/$KEY"'
)

PEERS: Final = (
    Peer(
        name="appliance",
        version='"$APPLIANCE" --version',
        create=_CREATE_OURS % "plain",
        verify=_VERIFY_OURS,
        signed=True,
    ),
    Peer(
        name="appliance, 5 % parity",
        version='"$APPLIANCE" --version',
        create=_CREATE_OURS % "parity",
        verify=_VERIFY_OURS,
        repair='"$APPLIANCE" media repair "$M/bundle" --trust "$K/own-root/root.1.json"',
        signed=True,
    ),
    Peer(
        name="cp, sha256sum",
        version=_DPKG + "coreutils",
        create='cp -r "$P/." "$M"; cd "$M"; '
        "find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS",
        verify='cd "$M"; sha256sum --check --strict --quiet SHA256SUMS',
    ),
    Peer(
        name="bagit",
        version=_PIP % "bagit",
        create='cp -r "$P/." "$M"; "$PEERS/bagit.py" --quiet --sha256 --processes 2 "$M"',
        verify='"$PEERS/bagit.py" --quiet --validate --processes 2 "$M"',
    ),
    Peer(
        name="model-signing",
        version=_PIP % "model-signing",
        create='cp -r "$P" "$M/payload"; "$PEERS/model_signing" sign key "$M/payload" '
        '--signature "$M/model.sig" --private_key "$K/$KEY.pem"',
        verify='"$PEERS/model_signing" verify key "$M/payload" '
        '--signature "$M/model.sig" --public_key "$K/own.pub.pem"',
        signed=True,
    ),
    Peer(
        name="rauc, plain, not compressed",
        version=_DPKG + "rauc",
        create='rm -rf "$W/rauc"; cp -al "$P" "$W/rauc"; mv "$W/rauc/weights.bin" "$W/rauc/weights.img"; '
        "printf '[update]\\ncompatible=bench\\nversion=1\\n[bundle]\\nformat=plain\\n"
        '[image.rootfs]\\nfilename=weights.img\\n\' >"$W/rauc/manifest.raucm"; '
        'rauc bundle --cert="$K/$KEY.crt" --key="$K/$KEY.pem" '
        '--mksquashfs-args="-noI -noD -noF -noX" "$W/rauc" "$M/bundle.raucb"',
        verify='rauc info --keyring="$K/own.crt" "$M/bundle.raucb"',
        signed=True,
    ),
    Peer(
        name="casync",
        version=_DPKG + "casync",
        create='casync make --store="$M/store.castr" "$M/index.caidx" "$P"',
        verify='casync digest --store="$M/store.castr" "$M/index.caidx"',
    ),
    Peer(
        name="desync",
        version='cat "$PEERS/desync.version"',
        create='mkdir "$M/store"; "$PEERS/desync" tar --index --store "$M/store" "$M/index.caidx" "$P"',
        verify='"$PEERS/desync" cat --store "$M/store" "$M/index.caidx" /dev/null',
    ),
    Peer(
        name="borg, not encrypted",
        version=_DPKG + "borgbackup",
        create='borg init --encryption none "$M/repository"; cd "$P"; '
        'borg create --compression none "$M/repository::one" .',
        verify='borg check --verify-data "$M/repository"',
        repair='yes YES | borg check --verify-data --repair "$M/repository"; '
        'cd "$(mktemp -d -p "$W")"; borg extract "$M/repository::one"',
    ),
    Peer(
        name="par2, 5 %",
        version=_DPKG + "par2",
        create='cp -r "$P/." "$M"; cd "$M"; par2 create -q -q -R -r5 -b2000 payload.par2 .',
        verify='cd "$M"; par2 verify -q -q payload.par2',
        repair='cd "$M"; par2 repair -q -q payload.par2',
    ),
)
