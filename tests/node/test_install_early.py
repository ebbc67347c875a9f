"""An installation up to the staged copy, on a booted node: what stops it, and that nothing changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.cnsa import cnsa_holders, cnsa_root, cnsa_root_file, sign_twice  # noqa: F401 - fixtures
from tests.conftest import CONTENTS, BundleMaker
from tests.node.conftest import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Done, Holders, Operator, PracticeLab, PracticeNode, Root

pytestmark = pytest.mark.node

STAGED = "/var/lib/appliance/staged"
BIG = 200 << 20


class Desk:
    """An operator's desk: a bundle, a root, an inventory of one's own to break, a state folder."""

    def __init__(
        self, operator: Operator, lab: PracticeLab, bundle: Path, root: Path, folder: Path
    ) -> None:
        self.operator, self.lab, self.bundle, self.root = operator, lab, bundle, root
        self.inventory = shutil.copytree(lab.inventory, folder / "inventory")
        self.state = folder / "state"

    @property
    def node(self) -> PracticeNode:
        return self.lab.node

    def command(self, *options: str) -> list[str]:
        fixed = ["-i", str(self.inventory), "--trust", str(self.root), "--state", str(self.state)]
        return ["appliance", "install", str(self.bundle), *fixed, "--json", *options]

    def install(self, *options: str) -> tuple[int, Any, str]:
        """Exit code, the JSON result, and what was told on the way."""
        done: Done = self.operator.run(self.command(*options), check=False)
        return done.returncode, json.loads(done.stdout), done.stderr

    def edit(self, old: str, new: str) -> None:
        """Change the inventory."""
        path = self.inventory / "inventory.yml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def record(self, stage: str) -> Any:
        (path,) = self.state.glob(f"runs/*/{self.node.name}/{stage}.json")
        return json.loads(path.read_text())

    @property
    def copy(self) -> str:
        """The staged copy's folder on the node."""
        return f"{STAGED}/{self.install('--stage', 'verify')[1]['digest']}"


@pytest.fixture
def bundle(maker: BundleMaker, two_of_three: Root) -> Path:
    """The small bundle, with the names of what preflight looks for."""
    return maker.sign(
        maker.write("small", two_of_three, maker.lock({**CONTENTS, **SYSTEM})), "alice", "bob"
    )


@pytest.fixture
def desk(
    operator: Operator, fresh_lab: PracticeLab, bundle: Path, root_file: Path, tmp_path: Path
) -> Iterator[Desk]:
    """A desk with the small bundle; what the test staged is removed again."""
    desk = Desk(operator, fresh_lab, bundle, root_file, tmp_path)
    yield desk
    desk.node.inside("chmod -R u+w /var/lib/appliance 2>/dev/null; rm -rf /var/lib/appliance")


def untouched(node: PracticeNode) -> bool:
    return node.inside("test -e /var/lib/appliance", check=False).returncode != 0


def checks(result: Any, node: PracticeNode) -> dict[str, bool | None]:
    return {check["name"]: check["passed"] for check in result["nodes"][node.name]["preflight"]}


def test_a_fit_node_passes_every_check_and_is_not_touched(desk: Desk) -> None:
    code, result, _ = desk.install("--stage", "preflight")
    assert code == 0
    found = checks(result, desk.node)
    assert set(found.values()) == {True}
    assert {"reachable", "host-key", "authentication", "python3", "operator-address"} <= set(found)
    assert desk.record("preflight")["result"] == "done"
    assert untouched(desk.node)


def test_a_bundle_without_the_firewalls_programs_is_refused_before_anything_is_changed(
    desk: Desk, pristine_bundle: Path
) -> None:
    desk.bundle = pristine_bundle
    code, result, _ = desk.install("--stage", "stage")
    assert (code, result["error"]) == (5, "PreflightFailed")
    for name in ("package-ufw", "package-nftables", "package-netplan"):
        assert f"{name}: neither in the bundle nor on the node" in result["found"]
    assert untouched(desk.node)


def test_what_fights_the_firewall_and_what_would_lead_out_is_refused(desk: Desk) -> None:
    """A service with rules of its own, and a package's netplan file with a gateway."""
    unit, vendor = "/etc/systemd/system/firewalld.service", "/usr/lib/netplan/00-vendor.yaml"
    text = "network:\\n  ethernets:\\n    any:\\n      gateway4: 10.0.0.1\\n"
    desk.node.inside(
        f"printf '[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/true\\n' >{unit};"
        " systemctl daemon-reload; systemctl start firewalld; mkdir -p /usr/lib/netplan;"
        f" printf '{text}' >{vendor}"
    )
    try:
        code, result, _ = desk.install("--stage", "preflight")
    finally:
        desk.node.inside(f"systemctl stop firewalld; rm {unit} {vendor}; systemctl daemon-reload")
    assert (code, result["error"]) == (5, "PreflightFailed")
    assert "packet-filters: firewalld.service is active" in result["found"]
    assert f"gateway4 at {vendor}:4:7" in result["found"]
    assert f"{vendor}:4:7" in result["wanted"]
    assert untouched(desk.node)


def fingerprint(public: Path) -> str:
    listed = subprocess.run(["ssh-keygen", "-lf", str(public)], check=True, capture_output=True, text=True)
    return listed.stdout.split()[1]


def test_another_host_key_is_named_with_both_fingerprints(desk: Desk, tmp_path: Path) -> None:
    known = desk.inventory / "known_hosts"
    names, *real = known.read_text().split()
    (tmp_path / "real.pub").write_text(" ".join(real))
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    known.write_text(f"{names} {(tmp_path / 'other.pub').read_text()}")
    code, result, _ = desk.install("--stage", "preflight")
    assert (code, result["error"]) == (5, "HostKeyChanged")
    assert fingerprint(tmp_path / "real.pub") in result["found"]
    assert fingerprint(tmp_path / "other.pub") in result["wanted"]
    assert desk.record("preflight")["result"] == "failed"
    assert untouched(desk.node)


def test_a_node_that_does_not_answer_is_unreachable(desk: Desk) -> None:
    """The port is closed: nobody answers there, at once."""
    desk.edit("port: 22", "port: 2222")
    known = desk.inventory / "known_hosts"
    names, key = known.read_text().split(maxsplit=1)
    known.write_text("".join(f"[{name}]:2222 {key}" for name in names.split(",")))
    code, result, _ = desk.install("--stage", "preflight")
    assert (code, result["error"]) == (6, "NodeUnreachable")
    assert "reachable" in result["found"]


def test_a_refused_login_is_told_from_a_silent_node(desk: Desk) -> None:
    key = desk.inventory / "keys/operator"
    key.unlink()
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", str(key)], check=True)
    code, result, _ = desk.install("--stage", "preflight")
    assert (code, result["error"]) == (5, "PreflightFailed")
    assert "authentication" in result["found"]
    assert "authorized_keys" in result["hint"]


def test_a_user_who_cannot_become_root_is_refused(desk: Desk) -> None:
    desk.node.inside(
        "useradd --create-home --shell /bin/sh field && cp -r /root/.ssh /home/field/.ssh "
        "&& chown -R field: /home/field/.ssh"
    )
    desk.edit("user: root", "user: field")
    try:
        code, result, _ = desk.install("--stage", "stage")
    finally:
        desk.node.inside("userdel --remove field")
    assert (code, result["error"]) == (5, "PreflightFailed")
    assert "root: user field, no password-less sudo" in result["found"]
    assert untouched(desk.node)


def test_a_node_without_python_is_told_so(desk: Desk) -> None:
    desk.node.inside("mv /usr/bin/python3 /usr/bin/python3.away")
    try:
        code, result, _ = desk.install("--stage", "stage")
    finally:
        desk.node.inside("mv /usr/bin/python3.away /usr/bin/python3")
    assert (code, result["error"]) == (5, "PreflightFailed")
    assert "python3: no python3 on the node" in result["found"]
    assert untouched(desk.node)


def test_a_station_that_would_lock_itself_out_is_refused(desk: Desk) -> None:
    """The inventory names a neighbour's address as the operator's: the firewall would shut us out."""
    mine = desk.lab.operator[0]
    desk.edit(f"- {mine}\n", f"- {mine[:-1]}2\n")
    code, result, _ = desk.install("--stage", "stage")
    assert (code, result["error"]) == (5, "PreflightFailed")
    assert f"operator-address: the node sees this station as {mine}" in result["found"]
    assert untouched(desk.node)


def test_a_card_that_is_not_there_is_refused(desk: Desk) -> None:
    desk.edit(f"mac: {desk.node.mac}", "mac: 02:00:00:00:00:fe")
    code, result, _ = desk.install("--stage", "stage")
    assert (code, result["error"]) == (5, "PreflightFailed")
    assert "interface-mgmt" in result["found"]
    assert desk.node.mac in result["found"]


def test_a_disk_that_is_too_small_is_refused_before_anything_is_copied(desk: Desk) -> None:
    desk.node.inside("mkdir /var/lib/appliance && mount -t tmpfs -o size=1m none /var/lib/appliance")
    try:
        code, result, _ = desk.install("--stage", "stage")
        assert desk.node.inside("ls -A /var/lib/appliance").stdout == ""
    finally:
        desk.node.inside("umount /var/lib/appliance")
    assert (code, result["error"]) == (5, "PreflightFailed")
    assert "disk-space" in result["found"]


def test_a_wrong_inventory_or_bundle_stops_before_the_node_is_asked(desk: Desk) -> None:
    desk.edit("revert_after: 120", "revert_after: 120\ngateway4: 10.0.0.1")
    code, result, _ = desk.install()
    assert (code, result["error"]) == (3, "GatewayForbidden")
    assert ":" in result["where"]
    path = desk.bundle / "payload/model/tiny.gguf"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    code, result, _ = desk.install()
    assert (code, result["error"]) == (4, "DigestMismatch")
    assert untouched(desk.node)


def test_limit_refuses_names_the_inventory_does_not_have(desk: Desk) -> None:
    code, result, _ = desk.install("--limit", "nobody")
    assert (code, result["error"]) == (3, "InventoryInvalid")


def test_the_staged_copy_is_the_bundle_and_a_second_run_copies_nothing(desk: Desk) -> None:
    code, result, _ = desk.install("--stage", "stage")
    assert code == 0
    assert result["nodes"][desk.node.name]["stage"]["bytes"] > 0
    assert desk.node.run(f"cd {desk.copy} && sha256sum --quiet --strict -c trust/SHA256SUMS").stdout == ""
    writable = f"find {desk.copy} -perm /222 -o ! -user root"
    assert desk.node.run(writable).stdout == ""
    code, result, _ = desk.install("--stage", "stage")
    assert code == 0
    assert result["nodes"][desk.node.name]["stage"] == {"files": 0, "bytes": 0, "removed": []}


def test_a_byte_that_flips_on_the_node_is_found_and_repaired(desk: Desk) -> None:
    desk.install("--stage", "stage")
    model = f"{desk.copy}/payload/model/tiny.gguf"
    desk.node.run(f"printf X | dd of={model} bs=1 seek=5 conv=notrunc status=none")
    code, result, _ = desk.install("--stage", "stage")
    assert code == 0
    assert result["nodes"][desk.node.name]["stage"]["files"] == 1
    assert desk.node.run(f"cd {desk.copy} && sha256sum --quiet --strict -c trust/SHA256SUMS").stdout == ""


def test_a_model_that_is_cut_in_the_bundle_is_whole_on_the_node(
    desk: Desk, maker: BundleMaker, two_of_three: Root
) -> None:
    """Roles look for it under its own name."""
    data = bytes(range(251)) * (11 << 12)  # no two of its blocks are the same
    contents = {
        "engine": ("python", {"engine.whl": b"wheel"}),
        "model": ("tiny-gguf", {"tiny.gguf": data}),
        **SYSTEM,
    }
    desk.bundle = maker.write("cut", two_of_three, maker.lock(contents), slice_size=4 << 20)
    maker.sign(desk.bundle, "alice", "bob")
    assert len(list(desk.bundle.glob("payload/model/tiny.gguf.slice-*"))) == 3
    assert desk.install("--stage", "stage")[0] == 0
    folder = f"{desk.copy}/payload/model"
    assert desk.node.run(f"ls -A {folder}").stdout.split() == ["tiny.gguf"]
    found = desk.node.run(f"sha256sum < {folder}/tiny.gguf").stdout.split()[0]
    assert found == hashlib.sha256(data).hexdigest()
    code, result, _ = desk.install("--stage", "stage")
    assert code == 0
    assert result["nodes"][desk.node.name]["stage"] == {"files": 0, "bytes": 0, "removed": []}
    desk.node.run(f"printf X | dd of={folder}/tiny.gguf bs=1 seek=5000000 conv=notrunc status=none")
    code, result, _ = desk.install("--stage", "stage")
    assert code == 0
    assert result["nodes"][desk.node.name]["stage"]["files"] == 1
    found = desk.node.run(f"sha256sum < {folder}/tiny.gguf").stdout.split()[0]
    assert found == hashlib.sha256(data).hexdigest()


@pytest.fixture
def big_desk(desk: Desk, maker: BundleMaker, two_of_three: Root) -> Desk:
    """A desk with a bundle that takes a while to copy."""
    contents = {
        "engine": (
            "python",
            {"engine-1.0-py3-none-any.whl": b"wheel", "requirements.txt": b"engine==1.0\n"},
        ),
        "model": ("tiny-gguf", {"tiny.gguf": bytes(range(256)) * (BIG // 256)}),
        **SYSTEM,
    }
    desk.bundle = maker.write("big", two_of_three, maker.lock(contents))
    maker.sign(desk.bundle, "alice", "bob")
    return desk


def wait_until_copying(desk: Desk) -> None:
    """Until some of the big file has arrived."""
    until = time.monotonic() + 240
    arrived = f"find {STAGED} -name '*.part' -size +20M | grep -q ."
    while desk.node.inside(arrived, check=False).returncode:
        assert time.monotonic() < until, "the copy did not begin"
        time.sleep(0.1)


def test_a_killed_copy_goes_on_where_it_stopped(big_desk: Desk) -> None:
    running = big_desk.operator.start(big_desk.command("--stage", "stage"), start_new_session=True)
    wait_until_copying(big_desk)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert big_desk.record("stage")["result"] == "running", "a record of a run that was cut off"
    assert big_desk.node.inside(f"ls {STAGED} | grep complete", check=False).returncode != 0
    code, result, told = big_desk.install("--stage", "stage")
    assert code == 0
    assert "going on at stage, which was cut off" in told
    assert 0 < result["nodes"][big_desk.node.name]["stage"]["bytes"] <= BIG - (20 << 20)
    assert big_desk.node.run(f"cd {big_desk.copy} && sha256sum --quiet -c trust/SHA256SUMS").stdout == ""


def test_an_interrupted_copy_is_recorded_as_such(big_desk: Desk) -> None:
    running = big_desk.operator.start(big_desk.command("--stage", "stage"), start_new_session=True)
    wait_until_copying(big_desk)
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=240)
    assert running.returncode == 130, output
    assert big_desk.record("stage")["result"] == "interrupted"
    assert big_desk.install("--stage", "stage")[0] == 0


def test_a_cut_cable_while_copying_is_named_and_the_copy_goes_on_later(big_desk: Desk) -> None:
    running = big_desk.operator.start(big_desk.command("--stage", "stage"), stderr=subprocess.DEVNULL)
    wait_until_copying(big_desk)
    with cut_cable(big_desk):
        output, _ = running.communicate(timeout=240)
    result = json.loads(output)
    assert (running.returncode, result["error"]) == (6, "NodeUnreachable")
    assert "run the same command again" in result["hint"]
    assert big_desk.record("stage")["result"] == "failed"
    code, result, _ = big_desk.install("--stage", "stage")
    assert code == 0
    assert 0 < result["nodes"][big_desk.node.name]["stage"]["bytes"] < BIG


class cut_cable:  # noqa: N801 - reads as what it does: with cut_cable(desk)
    """The operator's cable is out; it is put back on the way out."""

    def __init__(self, desk: Desk) -> None:
        links = desk.operator.run(["ip", "-json", "link", "show", "type", "veth"]).stdout
        self.names = [link["ifname"] for link in json.loads(links) if link]
        self.operator = desk.operator

    def _set(self, state: str) -> None:
        for name in self.names:
            self.operator.run(["ip", "link", "set", "dev", name, state])

    def __enter__(self) -> None:
        self._set("down")

    def __exit__(self, *_: object) -> None:
        self._set("up")


@pytest.fixture
def cnsa_bundle(cnsa_holders: Holders, cnsa_root: Root, tmp_path: Path) -> Path:  # noqa: F811 - fixtures
    """A bundle of the profile that preflight lets pass."""
    maker = BundleMaker(tmp_path, cnsa_holders)
    return sign_twice(maker.write("cnsa", cnsa_root, maker.lock({**CONTENTS, **SYSTEM})), cnsa_holders)


def test_a_bundle_of_the_profile_cnsa_is_staged_by_both_lists(
    operator: Operator,
    fresh_lab: PracticeLab,
    cnsa_bundle: Path,
    cnsa_root_file: Path,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    """And a bundle from which the stricter list was taken is refused before the node hears of it."""
    desk = Desk(operator, fresh_lab, cnsa_bundle, cnsa_root_file, tmp_path)
    try:
        code, result, told = desk.install("--stage", "stage")
        assert code == 0, (result, told)
        for algorithm in ("sha384", "sha256"):
            listed = f"trust/{algorithm.upper()}SUMS"
            desk.node.inside(f"cd {desk.copy} && {algorithm}sum --quiet --strict --check {listed}")
        desk.node.inside(
            f"test -e {desk.copy}/trust/SHA384SUMS.emil.mldsa87 && test -e {desk.copy}.complete"
        )
    finally:
        desk.node.inside("chmod -R u+w /var/lib/appliance 2>/dev/null; rm -rf /var/lib/appliance")
    for path in (*cnsa_bundle.glob("trust/SHA384SUMS*"), *cnsa_bundle.glob("trust/provenance.*")):
        path.unlink()
    code, result, _ = desk.install("--stage", "stage")
    assert (code, result["error"]) == (4, "ProfileNotMet")
    assert untouched(desk.node)
