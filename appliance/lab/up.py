"""Bring a lab up: all of it, or nothing is left of it."""

from __future__ import annotations

import contextlib
import functools
import secrets
import signal
import time
import uuid
from typing import TYPE_CHECKING

from appliance.lab import cgroup, machines, namespaces, network, site
from appliance.lab.down import take_down
from appliance.lab.identity import new_key_pair
from appliance.lab.places import claim_folder, locked, node_folder, read_state, write_state
from appliance.lab.plan import Lab, check_count, check_name, choose_segment
from appliance.lab.reach import wait_reachable
from appliance.lab.recipe import Recipe
from appliance.lab.requirements import UP_TOOLS, require_root, require_tools
from appliance.lab.rootfs import prepare_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.lab.places import Places
    from appliance.progress import Progress

_LOCK_WAIT = 30.0


def bring_up(places: Places, name: str, *, count: int, timeout: float, progress: Progress) -> Lab:
    """Boot a lab whose operator's side is the network namespace this runs in.

    When it returns, root can log in to every node over IPv4 and IPv6, and the inventory folder is
    complete.  When it raises, also on Ctrl-C, nothing is left.

    Args:
        places: where labs and roots are kept.
        name: the lab's name.
        count: number of nodes.
        timeout: seconds the nodes have to boot.
        progress: told what is being done.

    Raises:
        Usage: the name or the number is impossible.
        PreflightFailed: not root, or no unified control groups.
        ToolMissing: a program is missing.
        LabFailed: the lab exists, or does not come up.
    """
    check_name(name)
    check_count(count)
    require_root()
    require_tools(UP_TOOLS)
    cgroup.cgroup_path("")  # fails here rather than half-way
    root = prepare_root(places, Recipe(), progress=progress)
    with _claimed(places, name, count, root) as (lab, folder, lock):
        progress.begin("booting", items=count)
        network.lay_bridge(lab)
        _write_files(lab, folder)
        deadline = time.monotonic() + timeout
        started = [machines.start(folder, node, lock=lock) for node in lab.nodes]
        machines.wait_ready(started, deadline=deadline)
        for node in lab.nodes:
            wait_reachable(places.inventory(name), node, deadline=deadline)
            progress.item(node.name)
        progress.end()
    return lab


@contextlib.contextmanager
def _claimed(places: Places, name: str, count: int, root: Path) -> Iterator[tuple[Lab, Path, int]]:
    """A new lab's folder with its state written, locked; removed again if the block raises."""
    with contextlib.ExitStack() as stack:
        with locked(places.labs, wait=_LOCK_WAIT, create=True), _interrupts_held():
            folder = claim_folder(places, name)
            # Left in the opposite order: the lock here is given up first, and removing waits for it.
            # A keeper just started holds it until it is where removing finds it.
            stack.push(functools.partial(_remove_if_raised, places, name))
            lock = stack.enter_context(locked(folder, wait=_LOCK_WAIT))
        with locked(places.labs, wait=_LOCK_WAIT):
            lab = _new_lab(places, name, count, root)
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


def _new_lab(places: Places, name: str, count: int, root: Path) -> Lab:
    others = [read_state(places.folder(other)) for other in places.names()]
    return Lab(
        name=name,
        segment=choose_segment(network.used_networks(), {other.segment for other in others if other}),
        count=count,
        token=secrets.token_hex(5),
        netns=namespaces.own_network(),
        root=root,
    )


def _write_files(lab: Lab, folder: Path) -> None:
    """Write the inventory folder, and each node's own files into the upper layer of its disk."""
    operator = new_key_pair()
    host_keys = {node.name: new_key_pair() for node in lab.nodes}
    inventory = folder / "inventory"
    _write(inventory / "inventory.yml", site.inventory_text(lab), 0o644)
    public = {name: pair.public for name, pair in host_keys.items()}
    _write(inventory / "known_hosts", site.known_hosts_text(lab, public), 0o644)
    _write(inventory / "keys/operator", operator.private, 0o600)
    _write(inventory / "keys/operator.pub", f"{operator.public}\n", 0o644)
    for node in lab.nodes:
        home = node_folder(folder, node.name)
        for part in ("upper", "work", "merged"):
            (home / part).mkdir(parents=True)
        (home / "upper/root").mkdir(mode=0o700)
        (home / "upper/root/.ssh").mkdir(mode=0o700)
        files = site.node_files(
            lab,
            node,
            host_key=host_keys[node.name].private,
            operator_key=operator.public,
            machine_id=uuid.uuid4().hex,
        )
        for path, text in files.items():
            _write(home / "upper" / path, text, 0o600 if path in site.PRIVATE_FILES else 0o644)


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=mode)
    path.write_text(text, "utf-8")
