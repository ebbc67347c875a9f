"""What a booted node remembers: it does not go back, but by a permit, once; it takes nothing past its date,
but by a waiver, once; and it knows when it forgot.

Tests of this module build on each other: one node is installed, and then asked for what it should refuse.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.definition.lock import lock_text, parse_lock
from appliance.trust.documents import signature_name
from appliance.trust.keys import parse_public_file
from appliance.trust.root import namespace
from appliance.trust.statements import (
    Enrolment,
    Permit,
    Release,
    Statement,
    Time,
    Waiver,
    statement_bytes,
    statement_name,
)

if TYPE_CHECKING:
    from conftest import Installer, NewBundle, NewInstaller, NewLab, Operator, PracticeLab, PracticeNode

    from tests.conftest import Holders

pytestmark = [pytest.mark.node, pytest.mark.archive]

DEMO = Path(__file__).resolve().parents[2] / "bundles/demo.yaml"
FOLDER = "/var/lib/appliance/journal"
#: All that is ours on the node, and when it was changed.
OURS = "find /var/lib/appliance /opt/appliance -printf '%p %s %m %T@ %C@\\n' | sort"


@dataclass
class Bundles:
    """The demonstration under two sequences."""

    older: Path
    newer: Path


@dataclass
class Stick:
    """A folder of statements, each signed by alice."""

    path: Path
    holders: Holders

    def add(self, statement: Statement, role: str = "release") -> Statement:
        name = statement_name(statement)
        (self.path / name).write_bytes(statement_bytes(statement))
        keyid = parse_public_file(self.holders.public("alice")).keyid
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace(role), "-f"]
        command += [str(self.holders.key("alice"))]
        signature = subprocess.run(
            command, input=statement_bytes(statement), stdout=subprocess.PIPE, check=True
        ).stdout
        (self.path / signature_name(name, "alice", keyid)).write_bytes(signature)
        return statement


@pytest.fixture(scope="module")
def bundles(new_bundle: NewBundle, tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    first, second = (tmp_path_factory.mktemp(f"sequence-{number}") for number in (4, 5))
    older = new_bundle(under_sequence(4, first), first)
    definition = under_sequence(5, second)
    # What is in both is the same, and need not be looked for again.
    lock = parse_lock((first / "lock.json").read_text())
    digest = hashlib.sha256(definition.read_bytes()).hexdigest()
    renumbered = lock.model_copy(update={"definition": digest, "sequence": 5})
    (second / "lock.json").write_text(lock_text(renumbered))
    return Bundles(older, new_bundle(definition, second))


def under_sequence(sequence: int, folder: Path, more: str = "") -> Path:
    """The demonstration's definition under another sequence."""
    lines = DEMO.read_text().splitlines()
    changed = [f"sequence: {sequence}{more}" if line.startswith("sequence:") else line for line in lines]
    assert changed != lines
    definition = folder / "demo.yaml"
    definition.write_text("\n".join(changed) + "\n")
    return definition


@pytest.fixture(scope="module")
def older(fresh_lab: PracticeLab, new_installer: NewInstaller, bundles: Bundles) -> Installer:
    return new_installer(fresh_lab, bundles.older)


@pytest.fixture(scope="module")
def newer(fresh_lab: PracticeLab, new_installer: NewInstaller, bundles: Bundles) -> Installer:
    return new_installer(fresh_lab, bundles.newer)


@pytest.fixture
def stale(
    fresh_lab: PracticeLab,
    new_installer: NewInstaller,
    new_bundle: NewBundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Installer:
    """Of the next sequence, made two days ago and good for one; the node knows of a bundle made today."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int(time.time()) - 2 * 24 * 3600))
    return new_installer(fresh_lab, new_bundle(under_sequence(6, tmp_path, "\nvalid_days: 1"), tmp_path))


@pytest.fixture
def stick(tmp_path: Path, holders: Holders) -> Stick:
    return Stick(tmp_path, holders)


def nonce() -> str:
    return secrets.token_hex(32)


def remembered(operator: Operator, lab: PracticeLab, name: str = "") -> Any:
    """What ``appliance trust node`` says of a node."""
    done = operator.run(["appliance", "trust", "node", "-i", str(lab.inventory), "--json"])
    return json.loads(done.stdout)["nodes"][name or lab.node.name]


def state_of(node: PracticeNode) -> list[str]:
    return node.inside(OURS).stdout.splitlines()


def release_of(installer: Installer) -> Release:
    values = installer("--stage", "verify")[1]
    return Release(values["sequence"], values["digest"])


def test_a_new_node_remembers_nothing_and_a_check_leaves_it_so(
    newer: Installer, operator: Operator
) -> None:
    assert remembered(operator, newer.lab) == {
        "installed": False,
        "journal": None,
        "notes": [],
        "trouble": None,
        "unfinished": False,
    }
    code, result, _ = newer("--check")
    assert code == 0, result
    assert result["nodes"][newer.lab.node.name]["journal"]["begins"] is True
    code, result, _ = newer("--stage", "preflight")
    assert code == 0, result
    assert newer.lab.node.inside("test -e /var/lib/appliance", check=False).returncode == 1


def test_what_was_learnt_is_kept_before_anything_is_staged_and_the_sequence_is_not(
    newer: Installer, operator: Operator
) -> None:
    code, result, _ = newer("--stage", "stage")
    assert code == 0, result
    kept = remembered(operator, newer.lab)
    assert (kept["count"], kept["products"], kept["root"]["version"]) == (1, {}, 1)
    assert kept["floor"] > "2020"
    assert newer.record(newer.lab.node, "stage")["details"]["journal"] == {"count": 1}


def test_after_its_proof_an_installation_is_remembered(newer: Installer, operator: Operator) -> None:
    code, result, _ = newer()
    assert code == 0, result
    kept = remembered(operator, newer.lab)
    release = release_of(newer)
    assert kept["products"] == {"demo": {"sequence": 5, "digest": release.digest}}
    assert kept["count"] == 2
    assert newer.record(newer.lab.node, "preflight")["details"]["journal"]["begins"] is False
    modes = newer.lab.node.run(f"stat -c '%a %U' {FOLDER} {FOLDER}/a {FOLDER}/b").stdout.split("\n")
    assert modes[:3] == ["700 root", "600 root", "600 root"]
    assert newer.lab.node.run(f"ls {FOLDER}").stdout.split() == ["a", "b"]


def test_the_same_once_more_leaves_the_journal_as_it_is(newer: Installer) -> None:
    before = newer.lab.node.inside(f"cd {FOLDER} && stat -c '%n %i %z' a b").stdout
    code, result, _ = newer("--stage", "stage")
    assert code == 0, result
    assert newer.lab.node.inside(f"cd {FOLDER} && stat -c '%n %i %z' a b").stdout == before


@pytest.mark.parametrize("option", [[], ["--check"], ["--stage", "stage"]], ids=str)
def test_an_older_sequence_is_refused_and_changes_nothing(older: Installer, option: list[str]) -> None:
    before = state_of(older.lab.node)
    code, result, _ = older(*option)
    assert (code, result["error"]) == (4, "RollbackRefused")
    assert result["message"].startswith(f"{older.lab.node.name}: the node has demo 5")
    assert "appliance trust permit" in result["hint"]
    assert state_of(older.lab.node) == before
    if "--check" not in option:
        record = older.record(older.lab.node, "preflight")
        assert record["result"] == "failed"
        assert record["details"]["journal"]["refused"][0]["error"] == "RollbackRefused"


@pytest.fixture(scope="module")
def permit(newer: Installer, older: Installer, operator: Operator) -> Permit:
    identity = remembered(operator, newer.lab)["journal"]
    name = newer.lab.node.name
    return Permit(name, identity, nonce(), "demo", release_of(newer), release_of(older), "rehearsal")


def test_a_permit_that_one_signed_in_another_role_changes_nothing(
    older: Installer, stick: Stick, permit: Permit
) -> None:
    stick.add(permit, role="root")
    before = state_of(older.lab.node)
    code, result, _ = older("--statements", str(stick.path))
    assert (code, result["error"]) == (4, "SignatureInvalid")
    assert statement_name(permit) in result["message"]
    assert state_of(older.lab.node) == before


def test_a_permit_lets_the_node_go_back_once(
    older: Installer, newer: Installer, operator: Operator, stick: Stick, permit: Permit
) -> None:
    stick.add(permit)
    code, result, told = older("--statements", str(stick.path))
    assert code == 0, result
    assert "back from 5 to 4 by permit: rehearsal" in told
    kept = remembered(operator, older.lab)
    assert kept["products"]["demo"]["sequence"] == 4
    assert kept["nonces"] == [permit.nonce]
    assert json.loads(older.lab.node.run("cat /var/lib/appliance/installed.json").stdout)["sequence"] == 4
    code, result, _ = newer()
    assert code == 0, result
    code, result, _ = older("--statements", str(stick.path))
    assert (code, result["error"]) == (4, "RollbackRefused")
    assert "used before" in result["hint"]
    assert remembered(operator, older.lab)["products"]["demo"]["sequence"] == 5


def test_an_attested_time_raises_the_floor_but_not_by_leaps(
    newer: Installer, operator: Operator, stick: Stick
) -> None:
    """The demonstration's root has no role time: nobody's word counts."""
    identity = remembered(operator, newer.lab)["journal"]
    stick.add(Time(newer.lab.node.name, identity, nonce(), "2027-01-01T00:00:00Z"), role="time")
    code, result, _ = newer("--stage", "preflight", "--statements", str(stick.path))
    assert (code, result["error"]) == (4, "SignerUnknown")


def test_a_journal_taken_away_is_missed_and_only_an_enrolment_begins_a_new_one(
    newer: Installer, older: Installer, operator: Operator, stick: Stick
) -> None:
    node = newer.lab.node
    identity = remembered(operator, newer.lab)["journal"]
    node.inside(f"rm -r {FOLDER}")
    before = state_of(node)
    for installer in (newer, older):
        code, result, _ = installer("--stage", "stage")
        assert (code, result["error"]) == (4, "JournalLost")
    assert remembered(operator, newer.lab)["trouble"]["error"] == "JournalLost"
    assert state_of(node) == before
    enrolment = Enrolment(node.name, nonce(), "the disk was replaced", {"demo": 5})
    stick.add(enrolment)
    code, result, _ = older("--stage", "stage", "--statements", str(stick.path))
    assert (code, result["error"]) == (4, "RollbackRefused")
    code, result, _ = newer("--stage", "stage", "--statements", str(stick.path))
    assert code == 0, result
    kept = remembered(operator, newer.lab)
    assert kept["journal"] != identity
    assert kept["products"] == {"demo": {"sequence": 5, "digest": "0" * 64}}
    assert kept["nonces"] == [enrolment.nonce]


def test_a_waiver_lets_the_node_take_what_is_past_its_date_once(
    stale: Installer, operator: Operator, tmp_path_factory: pytest.TempPathFactory, holders: Holders
) -> None:
    """Whole installations: the nonce is used up with the record of the one that succeeded."""
    before = remembered(operator, stale.lab)
    code, result, _ = stale()
    assert (code, result["error"]) == (9, "BundleStale")
    stick = Stick(tmp_path_factory.mktemp("stick"), holders)
    name, identity = stale.lab.node.name, before["journal"]
    waiver = Waiver(name, identity, nonce(), release_of(stale).digest, "nothing newer is here")
    stick.add(waiver)
    code, result, _ = stale("--stage", "stage", "--statements", str(stick.path))
    assert code == 0, result
    assert remembered(operator, stale.lab)["nonces"] == before["nonces"], "nothing is installed yet"
    code, result, told = stale("--statements", str(stick.path))
    assert code == 0, result
    assert "by waiver: nothing newer is here" in told
    assert result["nodes"][name]["qualify"]["verdict"] == "passed"
    kept = remembered(operator, stale.lab)
    assert kept["products"]["demo"]["sequence"] == 6
    assert kept["nonces"] == sorted([*before["nonces"], waiver.nonce])
    state = state_of(stale.lab.node)
    code, result, _ = stale("--statements", str(stick.path))
    assert (code, result["error"]) == (9, "BundleStale")
    assert result["hint"].startswith("the one at hand was used before: each is good for one time; ask for")
    assert state_of(stale.lab.node) == state


def test_a_power_cut_after_a_commit_loses_nothing(newer: Installer, operator: Operator) -> None:
    kept = remembered(operator, newer.lab)
    newer.lab.node.reboot(power_cut=True)
    assert remembered(operator, newer.lab) == kept


def test_all_nodes_must_agree_and_remember_before_any_is_staged(
    new_lab: NewLab, new_installer: NewInstaller, operator: Operator, bundles: Bundles
) -> None:
    with new_lab(nodes=2) as lab:
        installer = new_installer(lab, bundles.newer)
        first, second = lab.nodes
        second.inside("mkdir -p /var/lib/appliance && echo '{}' >/var/lib/appliance/installed.json")
        code, result, _ = installer("--stage", "stage")
        assert (code, result["error"]) == (4, "JournalLost")
        assert result["message"].startswith(f"{second.name}: ")
        assert first.inside("test -e /var/lib/appliance", check=False).returncode == 1
        assert installer.record(first, "preflight")["result"] == "done"
        assert installer.record(second, "preflight")["result"] == "failed"
        second.inside("rm -r /var/lib/appliance; mkdir -p /var/lib/appliance; install -d -m 700 " + FOLDER)
        second.inside(f"setsid flock --shared {FOLDER} sleep 300 >/dev/null 2>&1 </dev/null &")
        code, result, _ = installer("--stage", "stage")
        assert (code, result["error"]) == (5, "InProgress"), "it can be read, and not be written"
        assert result["message"].startswith(f"{second.name}: ")
        assert remembered(operator, lab, first.name)["count"] == 1
        for node in lab.nodes:
            assert node.inside("ls -A /var/lib/appliance").stdout.split() == ["journal"]
        code, result, _ = installer("--stage", "stage", "--limit", first.name)
        assert code == 0, result
