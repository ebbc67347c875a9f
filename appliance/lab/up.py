"""Bring a lab up: all of it, or nothing is left of it."""

from __future__ import annotations

import contextlib
import functools
import secrets
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import Usage
from appliance.lab import cgroup, machines, namespaces, network
from appliance.lab.down import take_down
from appliance.lab.image import prepare_image
from appliance.lab.places import claim_folder, locked, read_state, write_state
from appliance.lab.plan import Lab, check_count, check_drives, check_name, choose_segment
from appliance.lab.power import boot_timeout
from appliance.lab.racking import rack
from appliance.lab.reach import wait_reachable
from appliance.lab.recipe import SUITE, SUITES, Recipe
from appliance.lab.requirements import MACHINE_TOOLS, UP_TOOLS, require_root, require_tools
from appliance.lab.rootfs import check_space, prepare_root
from appliance.lab.tap import require_tap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.lab.places import Places
    from appliance.progress import Progress

_LOCK_WAIT = 30.0
# What a rehearsal writes to one disk: an installation, and some more.
_MACHINE_BYTES = 2 * 10**9


@dataclass(frozen=True)
class Wanted:
    """What a new lab is to be.

    Args:
        count: number of nodes.
        machine: virtual machines instead of containers.
        capture: keep every frame of the virtual machines' interfaces.
        from_scratch: boot the virtual machines from their disks, instead of going on as copies of one
            that has booted.
        suite: the Debian release of containers.
        bond: two cards of each virtual machine on the data network, for a bond.
        tpm: a TPM in each virtual machine, which then boots from its disk: none of a booted one's copies
            can have one of its own.
        drives: simulated drives of each virtual machine.
    """

    count: int = 1
    machine: bool = False
    capture: bool = False
    from_scratch: bool = False
    bond: bool = False
    tpm: bool = False
    drives: int = 0
    suite: str = SUITE


def bring_up(
    places: Places, name: str, wanted: Wanted, *, timeout: float | None, progress: Progress
) -> Lab:
    """Boot a lab whose operator's side is the network namespace this runs in.

    When it returns, root can log in to every node over IPv4 and IPv6, and the inventory folder is
    complete.  When it raises, also on Ctrl-C, nothing is left.

    Args:
        places: where labs and roots are kept.
        name: the lab's name.
        wanted: what kind of nodes, and how many.
        timeout: seconds the nodes have to boot; None: what is usual for their kind.
        progress: told what is being done.

    Raises:
        Usage: the name or a number is impossible.
        PreflightFailed: not root, no unified control groups, or no tap devices for virtual machines.
        ToolMissing: a program is missing.
        SpaceExhausted: no room for the disks of virtual machines.
        LabFailed: the lab exists, or does not come up.
    """
    check_name(name)
    check_count(wanted.count)
    check_drives(wanted.drives)
    require_root()
    require_tools(MACHINE_TOOLS if wanted.machine else UP_TOOLS)
    cgroup.cgroup_path("")  # fails here rather than half-way
    root = prepare(places, machine=wanted.machine, suite=wanted.suite, progress=progress)
    with _claimed(places, name, wanted, root) as (lab, folder, lock):
        if wanted.machine:
            check_space(folder, wanted.count * _MACHINE_BYTES, "the disks of virtual machines")
        progress.begin("booting", items=wanted.count)
        network.lay_bridges(lab)
        rack(lab, folder)
        deadline = time.monotonic() + boot_timeout(timeout, machine=wanted.machine)
        started = [machines.start(folder, node, lock=lock) for node in lab.nodes]
        machines.wait_ready(started, deadline=deadline)
        for node in lab.nodes:
            wait_reachable(places.inventory(name), node, deadline=deadline)
            progress.item(node.name)
        progress.end()
    return lab


def prepare(places: Places, *, machine: bool, progress: Progress, suite: str = SUITE) -> Path:
    """What nodes are made from: all of a lab that needs a package archive.

    Raises:
        Usage: nodes cannot be of this release.
        PreflightFailed: for virtual machines, no tap devices here or another architecture.
        ToolMissing: a program is missing.
        SpaceExhausted: too little room for it.
        LabFailed: it cannot be made; the message carries the end of what was said.
    """
    if suite not in SUITES or (machine and suite != SUITE):
        raise Usage(
            "practice nodes cannot be of this release",
            found=suite,
            wanted=f"{SUITE}; of containers also {', '.join(each for each in SUITES if each != SUITE)}",
        )
    if not machine:
        return prepare_root(places, Recipe(suite=suite), progress=progress)
    require_tap()
    return prepare_image(places, progress=progress).folder


@contextlib.contextmanager
def _claimed(places: Places, name: str, wanted: Wanted, root: Path) -> Iterator[tuple[Lab, Path, int]]:
    """A new lab's folder with its state written, locked; removed again if the block raises."""
    with contextlib.ExitStack() as stack:
        with locked(places.labs, wait=_LOCK_WAIT, create=True), _interrupts_held():
            folder = claim_folder(places, name)
            # Left in the opposite order: the lock here is given up first, and removing waits for it.
            # A keeper just started holds it until it is where removing finds it.
            stack.push(functools.partial(_remove_if_raised, places, name))
            lock = stack.enter_context(locked(folder, wait=_LOCK_WAIT))
        with locked(places.labs, wait=_LOCK_WAIT):
            lab = _new_lab(places, name, wanted, root)
            write_state(folder, lab)
        yield lab, folder, lock


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C and polite ends wait for the end of the block, so that nothing in it is half-done.

    A signal mask would not do: it is one thread's own, and a progress display has another thread that
    may take the signal in its place.
    """
    received: list[int] = []

    def note(number: int, _frame: object) -> None:
        received.append(number)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {each: signal.signal(each, note) for each in signals}
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
        for number in dict.fromkeys(received):
            signal.raise_signal(number)


def _remove_if_raised(places: Places, name: str, raised: type[BaseException] | None, *_: object) -> None:
    if raised is not None:
        take_down(places, name)


def _new_lab(places: Places, name: str, wanted: Wanted, root: Path) -> Lab:
    others = [read_state(places.folder(other)) for other in places.names()]
    taken = {other.segment for other in others if other}
    return Lab(
        name=name,
        segment=choose_segment(network.used_networks(), taken, machine=wanted.machine),
        count=wanted.count,
        token=secrets.token_hex(5),
        netns=namespaces.own_network(),
        root=root,
        machine=wanted.machine,
        capture=wanted.capture,
        restored=wanted.machine and not wanted.from_scratch and not wanted.tpm,
        bond=wanted.bond,
        tpm=wanted.tpm,
        drives=wanted.drives,
    )
