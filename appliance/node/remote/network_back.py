"""Network, packet filter and SSH server of a node: kept, and put back if they are not what they were.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``switch``, by modules of
the role ``revert``, which the station sends along.

What is kept was confirmed over a fresh connection; so putting back exactly that needs no confirmation, and
the packet filter is never opened on the way (``network_restore.restore``).  A change that waits for its
confirmation is undone first, by its own program, and just so.  What it goes back to is also what is kept,
if one waits already as this begins: nobody knows yet that the rest works.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

REVERT = "var/lib/appliance/revert"
PROGRAM = "usr/local/sbin/appliance-revert"
#: Of the revert's snapshot, what says when it was to be undone.
ITS_OWN = ("armed.json", "begun", "spare")
ATTEMPTS = 3
#: What a program of Python's ends with where it does not know an option (argparse).
UNKNOWN = 2


def ask_revert(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the program that undoes; what it said."""
    return subprocess.run(
        [program, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


class Network:
    """The network of the node below a root."""

    def __init__(self, root: str = "/") -> None:
        self.root = Path(root)
        self.files, self.state, self.snapshot, self.back = (
            import_module(name)
            for name in ("lasting_files", "network_state", "network_snapshot", "network_restore")
        )
        self.node = self.state.Node(self.root)

    def units(self) -> tuple[str, ...]:
        """Units that are put back here."""
        return (*self.state.UNITS, *self.state.SSH_UNITS)

    def keep(self, folder: Path) -> None:
        """Make ``folder`` what the node would go back to now.

        Raises:
            OSError, ValueError: it cannot be read or written.
        """
        with self.locked():
            if not self.waits():
                self.snapshot.save(self.node, folder)
                return
            self.files.copy(self.root / REVERT / "pending", folder)
            for name in ITS_OWN:
                self.files.remove(folder / name)
            self.snapshot.reserve(folder)
            self.files.settle_tree(folder)

    def keep_room(self, folder: Path) -> None:
        """Room for what was kept, once more."""
        if folder.is_dir():
            self.snapshot.reserve(folder)

    def waits(self) -> bool:
        """Whether a change waits for its confirmation."""
        return (self.root / REVERT / "pending/armed.json").exists()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody arms, confirms or undoes meanwhile."""
        (self.root / REVERT).mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.root / REVERT / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def undo_unconfirmed(self) -> list[str]:
        """Undo a change that waits for its confirmation, by its own program; what went wrong.

        What it goes back to was there while the former version was proven, so the packet filter need not
        be opened for it.  A program that was there before this one may not know how.
        """
        program = str(self.root / PROGRAM)
        if not self.waits() or not os.access(program, os.X_OK):
            return []
        done = ask_revert(program, "restore", "--closed")
        if done.returncode == UNKNOWN:
            done = ask_revert(program, "restore")
        return (
            [f"the network: {done.stderr.strip()[-300:] or done.stdout[-300:]}"] if done.returncode else []
        )

    def put_back(self, folder: Path) -> list[str]:
        """Put back what was kept, on a running node; what went wrong."""
        with self.locked():
            faults: list[str] = []
            for attempt in range(ATTEMPTS):
                if attempt:
                    self.node.pause(1)
                if not self.differs(folder):
                    return []
                faults = self.back.restore(self.node, folder, opened=False)
                if not faults:
                    return []
            return [f"the network: {each}" for each in faults]

    def put_back_for_boot(self, folder: Path) -> bool:
        """Put back the files from which a node starts, before its network starts; whether any differed."""
        with self.locked():
            record = self.record(folder)
            if not self.files_differ(folder, record, boot=True) and not self.units_differ(
                record, boot=True
            ):
                return False
            self.back.restore_for_boot(self.node, folder)
            return True

    def record(self, folder: Path) -> dict[str, Any]:
        """What was kept beside the files; nothing if it is damaged."""
        with contextlib.suppress(OSError, ValueError):
            return dict(self.snapshot.read(folder))
        return {}

    def differs(self, folder: Path) -> bool:
        """Whether the network is not what was kept; one that cannot be read is not known to be."""
        record = self.record(folder)
        try:
            return (
                not record
                or self.files_differ(folder, record)
                or self.units_differ(record)
                or self.live_differs(record)
                or self.filter_differs(folder, record)
            )
        except (OSError, ValueError, KeyError, TypeError):
            return True

    def files_differ(self, folder: Path, record: dict[str, Any], *, boot: bool = False) -> bool:
        """Whether a path is not there as it was, or there as it was not; at ``boot``, /run is empty yet."""
        kept, there = record.get("files", ()), os.path.lexists
        return any(
            not self.files.same(folder / "files" / name, self.root / name)
            if name in kept
            else there(self.root / name)
            for name in self.state.PATHS
            if not (boot and name.startswith("run/"))
        )

    def units_differ(self, record: dict[str, Any], *, boot: bool = False) -> bool:
        """Whether a unit starts otherwise, or (but at ``boot``) is otherwise at work."""
        now, once = self.state.unit_states(self.node), self.state.AT_BOOT_ONLY
        keys = ("enabled",) if boot else ("enabled", "active")
        different = any(
            now[name][key] is not was[key]
            for name, was in record.get("units", {}).items()
            if name in now
            for key in keys
            if key == "enabled" or name not in once
        )
        if boot or different:
            return different
        ssh = self.state.unit_states(self.node, self.state.SSH_UNITS)
        return any(not ssh.get(name, {}).get("active") for name in record.get("ssh", ()))

    def live_differs(self, record: dict[str, Any]) -> bool:
        """Whether links, addresses, routes or kernel settings are others."""
        state, node = self.state, self.node
        links, settings = state.live_links(node), state.live_settings(node)
        made = any(
            link["kind"] in {"bond", "vlan"} and name not in record["links"] for name, link in links.items()
        )
        moved = any(
            link["mtu"] != was["mtu"] or (was["up"] and not link["up"])
            for name, link in links.items()
            if (was := record["links"].get(name))
        )
        addresses = [
            {(each["dev"], each["address"]) for each in some}
            for some in (record["addresses"], state.live_addresses(node))
        ]
        routes = [
            {tuple(self.back.route_words(each)) for each in some}
            for some in (record["routes"], state.live_routes(node))
        ]
        return (
            made
            or moved
            or addresses[0] != addresses[1]
            or routes[0] != routes[1]
            or any(settings.get(name, value) != value for name, value in record["settings"].items())
        )

    def filter_differs(self, folder: Path, record: dict[str, Any]) -> bool:
        """Whether the live packet filter is another one."""
        for name, program in self.state.filters(self.node).items():
            saved = (folder / name).read_text() if (folder / name).exists() else ""
            if self.back.rules(saved) != self.back.rules(self.state.told(self.node, f"{program}-save")):
                return True
        if not self.node.has("nft"):
            return False
        tables = self.state.nft_tables(self.node)
        before = [tuple(each) for each in record.get("tables", ())]
        if sorted(tables) != sorted(before):
            return True
        own = (folder / "rules.nft").read_text() if (folder / "rules.nft").exists() else ""
        return bool(self.back.rules(own) != self.back.rules(self.snapshot.nft_rules(self.node, tables)))
