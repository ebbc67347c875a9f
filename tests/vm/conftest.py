"""Booted virtual machines, and an operator's side that leads to them and nowhere else.

As in tests/node, nothing here skips.  A machine is emulated in software: commands on it take their time,
and what is compared is the time of processors spent, never that of the clock.
"""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.injected import injected, pytest_terminal_summary
from tests.node.conftest import (
    APPLIANCE,
    Installer,
    PracticeLab,
    PracticeNode,
    demo,
    lab_named,
    new_bundle,
    operator_side,
    run,
    trusted,
)
from tests.vm.isolated import Isolated, declare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.node.conftest import Operator

    NewMachines = Callable[..., contextlib.AbstractContextManager["Machines"]]

__all__ = ["demo", "injected", "new_bundle", "pytest_terminal_summary", "trusted"]


@dataclass(frozen=True)
class Machines:
    """A lab of virtual machines that is up.

    ``ready``: the processor seconds that the first node's QEMU had used when it was.
    """

    lab: PracticeLab
    operator: Operator
    ready: float = 0.0

    @property
    def node(self) -> PracticeNode:
        """The first node."""
        return self.lab.node

    def status(self) -> dict[str, Any]:
        """The lab's part of ``appliance lab status --json``."""
        return self.operator.lab_status(self.lab.name)

    def node_status(self) -> dict[str, Any]:
        """The first node's part of it."""
        values: dict[str, Any] = self.status()["nodes"][0]
        return values

    def power(self, verb: str) -> None:
        self.operator.run(["appliance", "lab", "power", verb, self.node.name], timeout=600)

    def processor_seconds(self) -> float:
        """What the first node's QEMU has used of the processors so far; proc_pid_stat(5)."""
        fields = Path(f"/proc/{self.node_status()['leader']}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def frames(self, purpose: str, boot: int = 1) -> list[bytes]:
        """The frames kept of one of the first node's interfaces; pcap in this machine's byte order."""
        data = (Path(self.node_status()["capture"]) / f"{boot}-{purpose}.pcap").read_bytes()
        assert struct.unpack_from("=I", data)[0] == 0xA1B2C3D4
        found, at = [], 24
        while at < len(data):
            (length,) = struct.unpack_from("=I", data, at + 8)
            found.append(data[at + 16 : at + 16 + length])
            at += 16 + length
        return found


@pytest.fixture(scope="session")
def desk() -> Iterator[Operator]:
    """The operator's side of the machines of this test run."""
    # The one step that may ask the package archive, so it runs where that can be reached.
    run([APPLIANCE, "lab", "prepare", "--machine"], check=True, timeout=1800)
    with operator_side(f"appliance-vm-{os.getpid()}") as side:
        yield side


@pytest.fixture(scope="session")
def new_machines(desk: Operator) -> NewMachines:
    """Boots fresh labs of virtual machines, each gone after its block.

    Used as ``with new_machines("--capture") as machines:``.
    """
    made = 0

    @contextlib.contextmanager
    def make(*options: str) -> Iterator[Machines]:
        nonlocal made
        made += 1
        name = f"vm{os.getpid()}x{made}"
        desk.run(["appliance", "lab", "up", name, "--machine", *options], timeout=600)
        try:
            machines = Machines(lab_named(desk, name), desk)
            yield replace(machines, ready=machines.processor_seconds())
        finally:
            desk.run(["appliance", "lab", "down", name])

    return make


@pytest.fixture(scope="module")
def machines(new_machines: NewMachines) -> Iterator[Machines]:
    """A lab with one virtual machine of the test module's own; its frames are kept."""
    with new_machines("--capture") as lab:
        yield lab


@pytest.fixture(scope="session")
def isolated(
    new_machines: NewMachines,
    desk: Operator,
    demo: Path,
    trusted: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Isolated]:
    """A machine that shouted, was installed and rebooted, and shouted again; for the whole session.

    In boot 1 it is as it was racked, and then installed; boot 2 is the isolated node's first.
    """
    with new_machines("--capture", "--bond") as machines:
        segments = machines.status()["segments"]
        declare(machines.lab.inventory, {name: each["operator"] for name, each in segments.items()})
        installer = Installer(desk, machines.lab, demo, trusted, tmp_path_factory.mktemp("state"))
        installer.timeout = 1800
        found = Isolated(machines, installer)
        with found.shouting():
            found.results["shouts before"] = found.shouts()
        found.install("apply", "--stage", "apply")
        found.mark("applied")
        found.install("install")
        with found.shouting():
            machines.node.reboot()
            found.results["shouts after"] = found.shouts()
        yield found
