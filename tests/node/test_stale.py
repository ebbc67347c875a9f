"""A bundle past its date on a booted node: refused with 9 by the node's floor, and by no clock.

Only as far as the staged copy; that a waiver is used up with the installation is the same as for permits
(test_journal.py).
"""

from __future__ import annotations

import json
import secrets
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from appliance.trust.documents import signature_name
from appliance.trust.founding import Enrolment, compose
from appliance.trust.keys import parse_public_file
from appliance.trust.root import namespace, root_bytes
from appliance.trust.statements import Statement, Time, Waiver, statement_bytes, statement_name
from tests.conftest import CONTENTS
from tests.node.conftest import SYSTEM

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Operator, PracticeLab

    from tests.conftest import BundleMaker

pytestmark = pytest.mark.node


class Desk:
    """A bundle that is good for 30 days, its root, and a folder for statements."""

    def __init__(self, operator: Operator, lab: PracticeLab, maker: BundleMaker, folder: Path) -> None:
        self.operator, self.lab, self.holders = operator, lab, maker.holders
        keys = {name: parse_public_file(self.holders.public(name)) for name in ("alice", "bob", "carol")}
        roles = {"carol": ("time",)}
        root = compose(
            Enrolment(name, key, roles.get(name, ("root", "release"))) for name, key in keys.items()
        )
        self.root = folder / "root.json"
        self.root.write_bytes(root_bytes(root))
        lock = maker.lock({**CONTENTS, **SYSTEM}).model_copy(update={"valid_days": 30})
        self.bundle = maker.sign(maker.write("stale", root, lock), "alice", "bob")
        self.statements = folder / "statements"
        self.statements.mkdir()
        self.state = folder / "state"

    def install(self) -> tuple[int, Any, str]:
        command = ["appliance", "install", str(self.bundle), "-i", str(self.lab.inventory), "--json"]
        command += ["--trust", str(self.root), "--state", str(self.state), "--stage", "stage"]
        command += ["--statements", str(self.statements)]
        done = self.operator.run(command, check=False)
        return done.returncode, json.loads(done.stdout), done.stderr

    def journal(self) -> Any:
        command = ["appliance", "trust", "node", "-i", str(self.lab.inventory), "--json"]
        return json.loads(self.operator.run(command).stdout)["nodes"][self.lab.node.name]

    def state_in(self, statement: Statement, role: str, *holders: str) -> Path:
        """Put a statement with signatures of these holders into the folder."""
        path = self.statements / statement_name(statement)
        path.write_bytes(statement_bytes(statement))
        for holder in holders:
            key = str(self.holders.key(holder))
            command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace(role), "-f", key]
            made = subprocess.run(command, input=path.read_bytes(), stdout=subprocess.PIPE, check=True)
            keyid = parse_public_file(self.holders.public(holder)).keyid
            path.with_name(signature_name(path.name, holder, keyid)).write_bytes(made.stdout)
        return path


def test_a_bundle_past_its_date_needs_a_waiver_and_no_clock_says_which_day_it_is(
    operator: Operator, fresh_lab: PracticeLab, maker: BundleMaker, tmp_path: Path
) -> None:
    desk = Desk(operator, fresh_lab, maker, tmp_path)
    code, result, told = desk.install()
    assert code == 0, result
    assert "by the clock of this station" in told, "which is years past the bundle's date"
    before = desk.journal()
    assert before["floor"] == "2026-01-31T12:00:00Z"
    name, identity = fresh_lab.node.name, before["journal"]
    time = Time(name, identity, secrets.token_hex(32), "2026-06-01T00:00:00Z")
    desk.state_in(time, "time", "carol")
    code, result, _ = desk.install()
    assert (code, result["error"]) == (9, "BundleStale")
    assert result["found"] == "expired 2026-03-02T12:00:00Z; it is 2026-06-01T00:00:00Z or later"
    assert desk.journal() == before
    waiver = Waiver(name, identity, secrets.token_hex(32), result_digest(desk), "nothing newer is here")
    written = desk.state_in(waiver, "release", "alice", "bob")
    code, result, told = desk.install()
    assert code == 0, result
    assert "by waiver: nothing newer is here" in told
    assert desk.journal()["floor"] == "2026-06-01T00:00:00Z"
    written.unlink()
    code, result, _ = desk.install()
    assert (code, result["error"]) == (9, "BundleStale")


def result_digest(desk: Desk) -> str:
    """The bundle's identity."""
    (record,) = desk.state.glob(f"runs/*/{desk.lab.node.name}/verify.json")
    return json.loads(record.read_text())["identity"]["bundle"]
