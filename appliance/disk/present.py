"""Drives for people and for programs: a table with its reasons, and JSON values whose names stay."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from appliance.bundle.media.sizes import size_text
from appliance.disk.fitness import judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.disk.discovery import Discovery
    from appliance.disk.fitness import Fitness, Reason
    from appliance.disk.state import Drive, Host

_HEAD: Final = ("DRIVE", "MODEL", "SERIAL", "SIZE", "KIND", "OWNER", "ENCRYPTED BY", "USE", "VERDICT")


def drive_values(drive: Drive, fitness: Fitness) -> dict[str, Any]:
    """One drive as JSON values; absent is null, unknown too, and the names stay."""
    return {
        "path": drive.path,
        "model": drive.model,
        "serial": drive.serial,
        "firmware": drive.firmware,
        "transport": drive.transport,
        "namespace": drive.namespace,
        "size": drive.size,
        "block_size": drive.block_size,
        "removable": drive.removable,
        "writable": drive.writable,
        "tcg": drive.tcg,
        "trouble": drive.trouble or None,
        "owner": drive.owner,
        "taken_by_linux": drive.taken,
        "opal": None if drive.discovery is None else _discovery(drive.discovery),
        "use": None if drive.use is None else {key: _plain(one) for key, one in asdict(drive.use).items()},
        "luks": None
        if drive.luks is None
        else {key: _plain(one) for key, one in asdict(drive.luks).items()},
        "firmware_known": {
            "verdict": drive.known.verdict,
            "says": drive.known.says,
            "source": drive.known.source,
        },
        "verdict": fitness.verdict,
        "against": [asdict(reason) for reason in fitness.against],
        "notes": [asdict(reason) for reason in fitness.notes],
    }


def node_values(host: Host, drives: Sequence[Drive]) -> dict[str, Any]:
    """All drives of a node as JSON values."""
    return {
        "kernel": host.kernel,
        "cryptsetup": host.cryptsetup,
        "root": host.root,
        "drives": [drive_values(drive, judge(drive, host)) for drive in drives],
    }


def node_text(host: Host, drives: Sequence[Drive]) -> str:
    """A line for each drive, and below it what stands against it and what to know."""
    if not drives:
        return "no drive that is a device of its own"
    rows = [_HEAD, *(_row(drive, judge(drive, host)) for drive in drives)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(_HEAD, widths, strict=True)).rstrip()]
    for drive, row in zip(drives, rows[1:], strict=True):
        fitness = judge(drive, host)
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(cells.rstrip())
        lines += [f"  against: {_reason(reason)}" for reason in fitness.against]
        lines += [f"  note:    {_reason(reason)}" for reason in fitness.notes]
        lines += [f"  opal:    {_features(drive.discovery)}"] if drive.discovery is not None else []
        lines += [f"  volume:  {drive.luks.uuid}"] if drive.luks is not None and drive.luks.uuid else []
    return "\n".join(lines)


def several_text(nodes: Mapping[str, str]) -> str:
    """Tables of several nodes, each below its name."""
    return "\n\n".join(f"{name}\n{text}" for name, text in nodes.items())


def _row(drive: Drive, fitness: Fitness) -> tuple[str, ...]:
    return (
        drive.path,
        " ".join(filter(None, (drive.model, drive.firmware))) or "-",
        drive.serial or "-",
        size_text(drive.size),
        _kind(drive),
        drive.owner if drive.tcg == "yes" else "-",
        (drive.luks and drive.luks.layer) or "-",
        _use(drive),
        fitness.verdict,
    )


def _kind(drive: Drive) -> str:
    words = {"yes": (drive.discovery and drive.discovery.ssc) or "?", "no": "no opal", "unknown": "?"}
    return " ".join(filter(None, (words[drive.tcg], drive.transport)))


def _use(drive: Drive) -> str:
    use = drive.use
    if use is None:
        return "?"
    words = {
        "root": use.root,
        "mounted": bool(use.mounted) and not use.root,
        "swap": bool(use.swap),
        "partitions": bool(use.partitions),
        "in use": bool(use.holders),
        "data": bool(use.holds) and not use.mounted and not use.partitions,
    }
    return ", ".join(word for word, so in words.items() if so) or "-"


def _reason(reason: Reason) -> str:
    return f"{reason.name}: {reason.says}" + (f"; {reason.hint}" if reason.hint else "")


def _features(found: Discovery) -> str:
    words = {
        "/".join(found.sscs) or "no class": True,
        "locking on": found.locking_enabled,
        "locking off": found.locking_enabled is False,
        "something is locked": found.locked,
        "encrypts": found.encrypts,
        "does not encrypt": found.encrypts is False,
        "no shadow MBR": found.shadow_supported is False,
        "shadow MBR shown": found.shadow_enabled and not found.shadow_done,
        "SID blocked": found.sid_blocked,
        f"blocks of {found.block_size}": found.block_size is not None,
        f"ranges aligned to {found.granularity} blocks": (found.granularity or 0) > 1,
        f"{found.admins} administrators, {found.users} users": found.users is not None,
        "single user mode": found.single_user,
    }
    return ", ".join(word for word, so in words.items() if so)


def _discovery(found: Discovery) -> dict[str, Any]:
    return {"ssc": found.ssc} | {key: _plain(one) for key, one in asdict(found).items()}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
