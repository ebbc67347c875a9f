"""What a station makes for a test of patches: bundles of a lock, the next root, patches between them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import yaml

from tests.node.at_station import at_station

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import PracticeLab

    from tests.conftest import Holders

ASK = r"""
import json, urllib.request
body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "?"}]}).encode()
request = urllib.request.Request(
    "http://127.0.0.1:8000/v1/chat/completions", body, {"Content-Type": "application/json"}
)
print(json.load(urllib.request.urlopen(request, timeout=60))["choices"][0]["message"]["content"])
"""
#: Has the unit of one version fail or hang before it serves; that of others starts.
SABOTAGE = """
mkdir -p {unit}.d
cat >{unit}.d/test.conf <<END
[Service]
ExecStartPre=+/bin/sh -c "if grep -q {digest} {unit}; then {deed}; fi"
END
systemctl daemon-reload
"""


def bundle_of(source: tuple[Path, Path], root: Path, key: Path) -> Path:
    """The bundle of a definition and its lock, beside them."""
    definition, lock = source
    bundle = definition.parent / "bundle"
    at_station("build", definition, "--lock", lock, "--root", root, "--out", bundle)
    at_station("sign", bundle, "--key", key)
    return bundle


def rotated(root: Path, holders: Holders, folder: Path) -> Path:
    """The next root, in which carol's key is alice's; in a folder with all before it."""
    draft = folder.with_name("draft")
    folder.mkdir()
    shutil.copy(root, folder)
    at_station("trust", "rotate", root, "--holder", f"alice={holders.key('carol')}.pub", "--out", draft)
    for name in ("alice", "carol"):
        at_station("trust", "sign", draft / "root.2.json", "--root", root, "--key", holders.key(name))
    at_station("trust", "assemble", draft, "--root", root, "--out", folder)
    return folder / "root.2.json"


def open_flow(lab: PracticeLab) -> str:
    """Have the inventory ask for a flow to one more address of the station; that address."""
    operator = lab.node.operator_side
    peer = lab.node.address4.rpartition(".")[0] + ".210"
    links = json.loads(operator.run(["ip", "-json", "address", "show"]).stdout)
    device = next(link["ifname"] for link in links if f"'{lab.operator[0]}'" in str(link["addr_info"]))
    operator.run(["ip", "address", "add", f"{peer}/24", "dev", device])
    path = lab.inventory / "inventory.yml"
    values = yaml.safe_load(path.read_text())
    flow = {"interface": "mgmt", "direction": "out", "protocol": "udp", "ports": [5140], "peers": [peer]}
    values["nodes"][lab.node.name]["flows"] = {"logs": flow}
    path.write_text(yaml.safe_dump(values))
    return peer


def build_patch(base: Path, to: Path, out: Path, key: Path) -> Path:
    """The patch from one bundle to another, signed."""
    at_station("patch", "build", "--from", base, "--to", to, "--out", out)
    at_station("sign", out, "--key", key, "--role", "patch")
    return out


def leads_to(patch: Path) -> str:
    """The digest of the bundle that a patch leads to."""
    return str(json.loads((patch / "manifest.json").read_text())["makes"])


def starts_from(patch: Path) -> str:
    """The digest of the bundle that a patch requires."""
    return str(json.loads((patch / "manifest.json").read_text())["requires"][0]["bundle"])
