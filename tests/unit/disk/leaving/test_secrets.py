"""No secret of a drive is in an argument list, an environment, an output, a log or a file in clear.

The program itself enrols a drive of a node and opens its escrow, as one would, and all of it is traced:
every program that is started on either side, and every byte that is written to anything but a pipe.  While
the node's cryptsetup waits, every process and every file there is is looked at too.  Afterwards every file
that is left is searched.  That the search finds what is there: ``test_search``.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.unit.definition.test_host_keys import VALID
from tests.unit.disk.escrows import key, key_file
from tests.unit.disk.leaving.node import Node
from tests.unit.disk.leaving.spellings import Secrets
from tests.unit.disk.leaving.tracing import Trace, files, trace
from tests.unit.disk.test_enroll_command import HOST_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

#: The program, on a station whose disk is one whatever the tests run on, and into whose memory strace can
#: look though it is not root's; that nobody can otherwise has a test of its own.
PROGRAM = """
import sys
from pathlib import Path
from appliance.cli.app import main
from appliance.disk.escrow.medium import refuse_medium
refuse_medium.__kwdefaults__["mounts"] = Path({mounts!r})
import appliance.disk.memory
appliance.disk.memory.protect_memory = lambda: True
main()
"""
HOLDERS = ("ana", "bo")


def run(program: str, folder: Path, *words: object, answers: Mapping[bytes, bytes] | None = None) -> Trace:
    """Run ``disk`` with these words, with the variables that it needs and no others."""
    environment = {"PATH": f"{folder}/bin:/usr/bin:/bin", "HOME": str(folder / "home")}
    environment |= {"TMPDIR": str(folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", program, "disk", *words]
    return trace(command, environment, folder / "work", folder.parent / "trace", answers)


@dataclass
class Station:
    """Where the operator works: folder, and the node."""

    folder: Path
    node: Node
    secrets: Secrets

    def run(self, *words: object, code: int = 0, answers: Mapping[bytes, bytes] | None = None) -> Trace:
        """Run the program, and search all that it did."""
        program = PROGRAM.format(mounts=str(self.folder / "mounts"))
        done = run(program, self.folder, *words, answers=answers)
        assert done.code == code, (done.out + done.err).decode()
        return done

    def seen(self, done: Trace, *asked_for: Path) -> list[str]:
        """Where secrets were seen, but in files that were asked for, or given."""
        allowed = {*self.node.sockets, *(f"written to {path}" for path in asked_for)}
        places = [(place, data) for place, data in done.places() if place not in allowed]
        return [*self.secrets.seen(places), *self.node.seen]


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    yield from furnished(tmp_path, Node)


def furnished(tmp_path: Path, kind: type[Node]) -> Iterator[Station]:
    """A station and its node, as long as they are wanted."""
    folder = tmp_path / "station"
    for name in ("work/escrow", "home", "tmp"):
        (folder / name).mkdir(parents=True)
    secrets = Secrets()
    node = kind(folder, secrets)
    (tmp_path / "given").mkdir()
    for name in HOLDERS:
        key_file(tmp_path / "given", name)
        secrets.add(f"key of {name}", str(key(name)).removeprefix("AGE-SECRET-KEY-1").encode())
    (tmp_path / "given/psid").touch(0o600)
    (tmp_path / "given/psid").write_text(node.machine.doer.bench.profile.psid)
    number = folder.stat().st_dev
    (folder / "mounts").write_text(
        f"1 0 {os.major(number)}:{os.minor(number)} / / rw - ext4 /dev/sdz1 rw\n"
    )
    lines = [f"10.20.0.{n} ssh-ed25519 {HOST_KEY}\n" for n in (11, 12)]
    (folder / "work/known_hosts").write_text("".join(lines))
    people = ", ".join(f"{name}: {key(name).to_public()}" for name in HOLDERS)
    (folder / "work/inventory.yml").write_text(
        f"{VALID}escrow: {{recipients: {{{people}}}, threshold: 2}}\n"
    )
    server = node.serve()
    yield Station(folder, node, secrets)
    server.shutdown()
    server.server_close()


ENROLL = ("enroll", "/dev/nvme0n1", "-i", "inventory.yml", "--node", "gpu-01", "--escrow", "escrow")


def test_no_secret_is_left_anywhere(station: Station, tmp_path: Path) -> None:
    given = tmp_path / "given"
    enroll = (*ENROLL, "--psid-file", given / "psid", "--confirm", "SIM1")

    station.node.talks = True
    failed = station.run(*enroll, code=7)
    assert b"I was given <secret> <secret>" in failed.err
    assert station.seen(failed) == []
    station.node.talks = False

    enrolled = station.run(*enroll)
    assert station.seen(enrolled) == []
    assert {name.split()[0] for name in station.secrets.names()} == {"psid", "key", "passphrase", "pin"}
    assert station.node.machine.doer.owner_is(station.node.machine.doer.attempts[-1])
    assert station.node.cores == [[0, 0]] * 3, "cryptsetup leaves no core dump"

    keys = [word for name in HOLDERS for word in ("--identity", given / f"{name}.key")]
    checked = station.run("escrow", "check", "escrow", *keys)
    shares = []
    for name in HOLDERS:
        out = given / f"{name}.txt"
        shared = station.run(
            "escrow", "share", "escrow", "SIM1", "--identity", given / f"{name}.key", "--out", out
        )
        for number, line in enumerate(out.read_bytes().split()):
            station.secrets.add(f"share {number} of {name}", line.partition(b"-")[2])
        assert station.seen(shared, out) == []
        shares += ["--share", out]
    for what in ("passphrase", "admin-pin"):
        out = given / what
        opened = station.run("escrow", "open", "escrow", "SIM1", "--what", what, *shares, "--out", out)
        assert station.secrets.within(out.read_bytes()), "what was asked for is there"
        assert station.seen(opened, out) == []
    assert station.seen(checked) == []
    assert station.secrets.seen(files(station.folder)) == []


def test_a_psid_that_is_typed_is_not_shown(station: Station) -> None:
    psid = station.node.machine.doer.bench.profile.psid.encode()
    answers = {b"and type it here:": b"SIM1", b"PSID on its label: ": psid}
    done = station.run(*ENROLL, answers=answers)
    assert b"SIM1 of gpu-01 is enrolled" in done.out
    assert station.seen(done) == []
    assert station.node.machine.doer.owner_is(station.node.machine.doer.attempts[-1])


def test_the_program_keeps_its_memory_before_it_reads_anything(tmp_path: Path) -> None:
    for name in ("work", "home", "tmp"):
        (tmp_path / "station" / name).mkdir(parents=True)
    program = "from appliance.cli.app import main; main()"
    done = run(program, tmp_path / "station", "escrow", "check", "none", "--identity", "none.key")
    assert b"none.key cannot be read" in done.err
    calls = [call.split(" ", 1)[1] for call in done.calls]
    assert any(call.startswith("prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE") for call in calls)
    assert any("RLIMIT_CORE, {rlim_cur=0, rlim_max=0}" in call for call in calls)
    assert any(call.startswith("mlockall(MCL_CURRENT|MCL_FUTURE|MCL_ONFAULT") for call in calls)
