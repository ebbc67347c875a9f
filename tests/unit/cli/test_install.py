"""``appliance install`` up to the point where a node would be asked."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

APPLIANCE = str(Path(sys.executable).with_name("appliance"))
EXAMPLE = Path(__file__).resolve().parents[3] / "inventory.example"


class Desk:
    """A bundle, its root in the inventory's folder, and a state folder."""

    def __init__(self, bundle: Path, root: Path, folder: Path) -> None:
        self.bundle, self.folders, self.state = bundle, [bundle], folder / "state"
        self.inventory = shutil.copytree(EXAMPLE, folder / "inventory")
        shutil.copy(root, self.inventory / "root.json")

    def install(self, *options: str) -> tuple[int, dict[str, str]]:
        command = [APPLIANCE, "install", *map(str, self.folders), "-i", str(self.inventory), "--json"]
        done = subprocess.run(
            [*command, "--state", str(self.state), *options],
            cwd=self.state.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def desk(bundle: Path, root_file: Path, tmp_path: Path) -> Desk:
    return Desk(bundle, root_file, tmp_path)


def test_verify_alone_needs_no_node_and_takes_the_root_beside_the_inventory(desk: Desk) -> None:
    code, result = desk.install("--stage", "verify")
    assert code == 0
    assert result["product"] == "demo"
    assert not (desk.state / "runs").exists()


def test_several_volumes_are_one_bundle(desk: Desk, volumes: Callable[..., list[Path]]) -> None:
    desk.folders = volumes(desk.bundle, 2, 3)
    code, result = desk.install("--stage", "validate")
    assert (code, result["product"]) == (0, "demo")
    desk.folders.pop()
    code, result = desk.install("--stage", "validate")
    assert (code, result["error"]) == (4, "VolumeMissing")


def test_the_example_inventory_validates(desk: Desk) -> None:
    code, result = desk.install("--stage", "validate")
    assert code == 0
    assert list(result["nodes"]) == ["gpu-01", "gpu-02"]
    (record,) = desk.state.glob("runs/*-example-hospital/gpu-01/validate.json")
    values = json.loads(record.read_text())
    assert (values["result"], values["identity"]["bundle"]) == ("done", result["digest"])


def test_limit_chooses_nodes(desk: Desk) -> None:
    code, result = desk.install("--stage", "validate", "--limit", "gpu-02")
    assert (code, list(result["nodes"])) == (0, ["gpu-02"])


@pytest.mark.parametrize(
    ("break_it", "options", "told"),
    [
        ("", ["--stage", "everything"], (2, "Usage")),
        ("rm inventory/root.json", [], (2, "Usage")),
        ("rm inventory/inventory.yml", [], (3, "InventoryInvalid")),
        ("sed -i 's/10.20.0.11/10.20.0.522/' inventory/inventory.yml", [], (3, "InventoryInvalid")),
        (
            "sed -i 's/format: 1/format: 1\\ngateway4: x/' inventory/inventory.yml",
            [],
            (3, "GatewayForbidden"),
        ),
        ("rm inventory/known_hosts", [], (3, "InventoryInvalid")),
        ("", ["--limit", "gpu-03"], (3, "InventoryInvalid")),
        ("printf x >> bundle/payload/model/tiny.gguf", [], (4, "DigestMismatch")),
        ("rm bundle/trust/SHA256SUMS.alice.sig", [], (4, "ThresholdNotMet")),
        ("", ["--statements", "nowhere"], (2, "Usage")),
        ("", ["--revoked", "nowhere"], (2, "Usage")),
        ("printf x > revoked.1.json", ["--revoked", "revoked.1.json"], (4, "RevocationInvalid")),
    ],
)
def test_what_is_wrong_is_named_and_leaves_no_record(
    desk: Desk, tmp_path: Path, break_it: str, options: list[str], told: tuple[int, str]
) -> None:
    subprocess.run(["sh", "-c", break_it], cwd=tmp_path, check=True)
    code, result = desk.install(*options)
    assert (code, result["error"]) == told
    assert not (desk.state / "runs").exists()


def test_two_installations_do_not_share_a_state_folder(desk: Desk) -> None:
    desk.state.mkdir()
    with (desk.state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, result = desk.install("--stage", "verify")
    assert (code, result["error"]) == (5, "InProgress")
