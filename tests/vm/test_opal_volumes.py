"""Encrypted volumes over the life of a node: mounted by the role, opened after power by each way there is.

Two drives: one that the TPM opens, one that an operator opens over SSH.  A service needs each of them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from appliance.definition.disks import Disk
from appliance.node.qualification import storage
from tests.vm.vault import furnish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import NewMachines

    from tests.vm.vault import Vault

pytestmark = pytest.mark.vm

HELD, LATE = "/srv/held", "/srv/late"
#: Writes where it needs to, each time it starts.
SERVICES = f"""
for place in {HELD} {LATE}; do
cat >/etc/systemd/system/uses-${{place#/srv/}}.service <<END
[Unit]
RequiresMountsFor=$place
[Service]
ExecStart=/bin/sh -c 'echo started >>$place/starts; exec sleep infinity'
[Install]
WantedBy=multi-user.target
END
done
systemctl daemon-reload
systemctl enable --now --quiet uses-held uses-late
echo kept >{HELD}/data
until [ -s {HELD}/starts ] && [ -s {LATE}/starts ]; do sleep 0.1; done
sync
"""


@pytest.fixture(scope="module")
def vault(new_machines: NewMachines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    with new_machines("--tpm", "--drives", "2") as machines:
        found = furnish(machines, tmp_path_factory.mktemp("desk"))
        path = found.inventory / "inventory.yml"
        values = yaml.safe_load(path.read_text())
        (node,) = values["nodes"].values()
        node["disks"] = {disk.name: written(disk) for disk in disks(found)}
        path.write_text(yaml.safe_dump(values))
        for number in (1, 2):
            code, said, told = found.enroll(number)
            assert code == 0, (said, told)
        yield found


def disks(vault: Vault) -> tuple[Disk, Disk]:
    return (
        Disk("held", vault.serial(1), None, "tpm2", "ext4", (HELD, "/var/lib/appliance"), (7,)),
        Disk("late", vault.serial(2), None, "ssh", "ext4", (LATE,)),
    )


def written(disk: Disk) -> dict[str, Any]:
    """As an operator writes it."""
    return {"serial": disk.serial, "unlock": disk.unlock, "mounts": list(disk.mounts)}


def command(vault: Vault, verb: str, *options: str, keys: bool = True) -> tuple[int, dict[str, Any]]:
    """A command on the volumes, from the desk: exit code, and the result or the error."""
    words = ["appliance", "disk", verb, "-i", str(vault.inventory), "--json", *options]
    words += ["--escrow", str(vault.escrow), "--identity", str(vault.key)] if keys else []
    environment = {
        **vault.machines.operator.environment,
        "XDG_STATE_HOME": str(vault.folder / "state"),
        "ANSIBLE_VERBOSITY": "4",
    }
    done = vault.machines.operator.run(words, check=False, timeout=600, env=environment)
    return done.returncode, json.loads(done.stdout)


def promises(vault: Vault) -> dict[str, bool]:
    """What the qualification says of the node's storage."""
    said = storage.parse_storage(vault.guest(storage.LISTING).stdout)
    found = {
        "mounted": storage.judge_mounted(said, disks(vault)),
        "opening": storage.judge_opening(said, disks(vault)),
        "swap": storage.judge_swap(said, ""),
        "temporary": storage.judge_temporary(said, ""),
    }
    return {name: finding.kept for name, finding in found.items()}


def active(vault: Vault) -> list[str]:
    """How the two services stand."""
    return vault.guest("systemctl is-active uses-held uses-late", check=False).stdout.split()


def start(vault: Vault) -> None:
    """Switch the node on, until nothing waits any more: SSH answers while the TPM is still at work."""
    vault.machines.power("on")
    vault.guest("systemctl is-system-running --wait", check=False)


def failed(vault: Vault) -> list[str]:
    """Units that failed."""
    lines = vault.guest("systemctl --failed --no-legend --plain").stdout.splitlines()
    return [line.split()[0] for line in lines]


def test_what_is_closed_is_said_then_bound_opened_and_mounted_and_a_second_run_changes_nothing(
    vault: Vault,
) -> None:
    code, said = command(vault, "mount", keys=False)
    assert (code, "volume-closed: not open: held, late" in said["found"]) == (7, True), said
    assert f"appliance disk unlock --node {vault.machines.node.name}" in said["found"]
    assert command(vault, "bind")[1]["bound"] == ["held"]
    assert command(vault, "bind", keys=False)[1]["already_bound"] == ["held"], "tried, without a passphrase"
    assert command(vault, "bind", "--again")[1]["bound"] == ["held"], "the former keyslot goes: see opening"
    code, said = command(vault, "unlock")
    assert (code, said["opened"], len(said["not_set_up"])) == (0, ["held", "late"], 5), said
    code, said = command(vault, "mount", keys=False)
    assert (code, len(said["changes"])) == (0, 1), said
    code, said = command(vault, "mount", keys=False)
    assert (code, said["changes"]) == (0, []), said
    vault.guest(SERVICES)
    assert active(vault) == ["active", "active"]
    assert promises(vault) == dict.fromkeys(("mounted", "opening", "swap", "temporary"), True)


def test_after_a_power_cut_the_tpm_opens_one_and_the_other_waits_for_an_operator(vault: Vault) -> None:
    vault.machines.power("cut")
    start(vault)
    assert active(vault) == ["active", "inactive"]
    assert failed(vault) == [], "waiting is no failure"
    assert vault.guest(f"cat {HELD}/data").stdout == "kept\n"
    assert promises(vault)["mounted"] is False
    below = vault.guest(f"ls -A {LATE}; touch {LATE}/in-the-clear", check=False)
    assert (below.stdout, below.returncode) == ("", 1), "nothing gets beside the volume"
    code, said = command(vault, "unlock")
    assert (code, said["opened"], said["already_open"]) == (0, ["late"], ["held"]), said
    assert said["started"] == ["uses-late.service"]
    assert active(vault) == ["active", "active"]
    twice = f"until [ $(wc -l <{LATE}/starts) -ge 2 ]; do sleep 0.1; done; cat {LATE}/starts"
    assert vault.guest(twice).stdout == "started\n" * 2, "what the first one wrote is there still"
    assert promises(vault)["mounted"] is True


def test_without_the_tpm_the_node_comes_up_and_the_escrow_opens_what_the_tpm_did(vault: Vault) -> None:
    vault.machines.power("cut")
    vault.machines.operator.run(["appliance", "lab", "tpm", "pull", vault.machines.node.name])
    start(vault)
    assert active(vault) == ["inactive", "inactive"]
    assert failed(vault) == ["systemd-cryptsetup@held.service"]
    code, said = command(vault, "unlock")
    assert (code, said["opened"]) == (0, ["held", "late"]), said
    assert active(vault) == ["active", "active"]
    assert failed(vault) == []
    assert vault.guest(f"cat {HELD}/data").stdout == "kept\n"


def test_no_passphrase_is_left_in_any_file_of_the_node_or_the_desk(vault: Vault) -> None:
    phrases = [vault.opened(number) for number in (1, 2)]
    places = "/etc /root /run /tmp /var/log /var/tmp"
    for phrase in phrases:
        search = f"grep -rlF -f - {places}; journalctl --no-pager | grep -cF -f -"
        found = vault.guest(
            f"cat >/dev/shm/p; set -- /dev/shm/p; {search.replace('-f -', '-f $1')}; rm $1",
            check=False,
            input=phrase.decode(),
        )
        assert found.stdout == "0\n"
        state = [path for path in (vault.folder / "state").rglob("*") if path.is_file()]
        (log,) = [path for path in state if path.name.startswith("disks-")]
        assert b"ESTABLISH SSH CONNECTION" in log.read_bytes(), "all that Ansible says at -vvvv"
        assert not any(phrase in path.read_bytes() for path in state)
