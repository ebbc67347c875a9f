"""Judges what of the node's memory and data may reach a disk in the clear, and how its volumes open.

One listing, of which every judgement takes its part.  A device counts as encrypted when whatever it is made
of goes through dm-crypt, or through the drive's own encryption as cryptsetup opens it: lsblk calls both
``crypt``.  What lies in memory is no disk: tmpfs, and zram unless it writes to a device behind it
(zram.rst, CONFIG_ZRAM_WRITEBACK).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from appliance.node.qualification.finding import Finding, lines, not_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from appliance.definition.disks import Disk

#: Where a volume's file system is mounted (role disk_encryption).
VOLUMES: Final = "/mnt/appliance"
#: Tokens that open nothing: ours say which keys a passphrase is of (``appliance.disk.luks.TOKEN``, which a
#: node that audits itself does not have).
TOKEN: Final = "appliance-keys"  # noqa: S105 - a kind, and no secret
_TEMPORARY: Final = "/tmp"  # noqa: S108 - named, not used
_SLEEP: Final = ("hibernate.target", "hybrid-sleep.target", "suspend-then-hibernate.target")

#: Each part after a line of its own; what a node lacks is empty.  cryptsetup does not end its last line.
LISTING: Final = f"""
part() {{ echo "=== $1"; shift; "$@" 2>/dev/null; }}
part swaps cat /proc/swaps
part zram grep -H . /sys/block/zram*/backing_dev
part mounts cat /proc/1/mountinfo
part devices lsblk --json --output NAME,PATH,MAJ:MIN,TYPE,SERIAL
part pattern cat /proc/sys/kernel/core_pattern
part crash cat /sys/kernel/kexec_crash_loaded
part power cat /sys/power/state /sys/power/disk
part sleep systemctl is-enabled {" ".join(_SLEEP)}
part command cat /proc/cmdline
part crypttab cat /etc/crypttab
for name in $(lsblk --raw --noheadings --output PATH,FSTYPE 2>/dev/null | sed -n 's/ crypto_LUKS$//p'); do
echo; part "luks $name" cryptsetup luksDump --disable-locks --dump-json-metadata "$name"
done
true
"""


@dataclass(frozen=True)
class Device:
    """A block device: its number, kind and drive's serial number, and whether all below it is encrypted."""

    number: str
    kind: str
    serial: str
    encrypted: bool


@dataclass(frozen=True)
class Storage:
    """What the node said.  ``mounts``: by place, the device's number, its name, and which part of it."""

    parts: Mapping[str, str]
    devices: Mapping[str, Device] = field(default_factory=dict)
    mounts: Mapping[str, tuple[str, str, str, str]] = field(default_factory=dict)

    def encrypted(self, source: str, number: str = "") -> bool:
        """Whether a device, by name or number, is."""
        found = self.devices.get(source)
        if found is None and number:
            found = next((one for one in self.devices.values() if one.number == number), None)
        return found is not None and found.encrypted

    def kind_of(self, path: str) -> str:
        """What a path lies on: ``memory``, ``encrypted``, or the device in the clear."""
        place = max((one for one in self.mounts if _below(path, one)), key=len, default="/")
        kind, number, source, _ = self.mounts.get(place, ("", "", "nothing", ""))
        if kind in {"tmpfs", "ramfs"}:
            return "memory"
        return "encrypted" if self.encrypted(source, number) else source


def parse_storage(text: str) -> Storage:
    """What ``LISTING`` prints."""
    found = re.split(r"^=== (.*)\n", text, flags=re.MULTILINE)
    parts = dict(zip(found[1::2], found[2::2], strict=True))
    return Storage(parts, _devices(parts.get("devices", "")), _mounts(parts.get("mounts", "")))


def _devices(text: str) -> dict[str, Device]:
    try:
        tree = json.loads(text)["blockdevices"]
    except (ValueError, KeyError, TypeError):
        return {}
    found: dict[str, Device] = {}
    for path, one in (pair for top in tree for pair in _walk(top, "", sealed=False)):
        before = found.get(path)  # of several drives: encrypted if it is on each way down
        sealed = one.encrypted and (before is None or before.encrypted)
        serial = one.serial or (before.serial if before else "")
        found[path] = Device(one.number, one.kind, serial, sealed)
    return found


def _walk(entry: Mapping[str, Any], serial: str, *, sealed: bool) -> Iterator[tuple[str, Device]]:
    kind, serial = str(entry.get("type")), str(entry.get("serial") or serial)
    sealed = sealed or kind == "crypt"
    yield str(entry.get("path")), Device(str(entry.get("maj:min")), kind, serial, sealed)
    for child in entry.get("children") or ():
        yield from _walk(child, serial, sealed=sealed)


def _mounts(text: str) -> dict[str, tuple[str, str, str, str]]:
    found = {}
    for line in filter(None, text.splitlines()):
        fields, _, after = line.partition(" - ")
        _, _, number, root, place, *_ = fields.split(" ")
        kind, source, *_ = after.split(" ")
        found[place] = (kind, number, source, root)
    return found


def _below(path: str, place: str) -> bool:
    return f"{path}/".startswith(f"{place.rstrip('/')}/")


def judge_swap(said: Storage, container: str) -> Finding:
    """Nothing is swapped to, or only what is encrypted or memory itself."""
    wanted = "no swap, or on encrypted devices and in memory alone"
    backed = dict(line.split(":", 1) for line in said.parts.get("zram", "").splitlines() if ":" in line)
    wrong: list[str] = []
    kept: list[str] = []
    for line in said.parts.get("swaps", "").splitlines()[1:]:
        path, kind = line.split()[:2]
        name = path.rpartition("/")[2]
        if name.startswith("zram"):
            behind = backed.get(f"/sys/block/{name}/backing_dev", "none").strip()
            safe = behind == "none" or said.encrypted(behind)
            words = f"{path}: memory" if behind == "none" else f"{path}: writes to {behind}"
        else:
            on = said.kind_of(path) if kind == "file" else ""
            safe = on in {"encrypted", "memory"} if kind == "file" else said.encrypted(path)
            words = f"{path}: {'encrypted' if safe else 'in the clear'}"
        (kept if safe else wrong).append(words)
    return _here(Finding(not wrong, lines(wrong or kept, otherwise="no swap"), wanted), container)


def judge_temporary(said: Storage, container: str) -> Finding:
    """What is in /tmp is in memory, or encrypted."""
    found = said.kind_of(_TEMPORARY)
    wanted = f"{_TEMPORARY} in memory (tmpfs), or on an encrypted device"
    return _here(Finding(found in {"memory", "encrypted"}, f"{_TEMPORARY}: {found}", wanted), container)


def judge_dumps(said: Storage, container: str) -> Finding:
    """Memory of a crashed process or kernel is kept nowhere, or where it is encrypted."""
    wanted = "core dumps to /bin/false or to an encrypted place; no kernel for crash dumps loaded"
    pattern, crash = said.parts.get("pattern", "").strip(), said.parts.get("crash", "").strip()
    if pattern.startswith("/"):
        on = said.kind_of(pattern.rpartition("/")[0] or "/")
        kept, words = on in {"memory", "encrypted"}, f"core dumps to {pattern}: {on}"
    else:
        kept, words = (
            pattern in {"|/bin/false", "|/usr/bin/false"},
            f"core dumps to {pattern or 'nobody knows'}",
        )
    crashes = "a kernel for crash dumps is loaded" if crash == "1" else "none for the kernel's"
    return _here(Finding(kept and crash != "1", f"{words}; {crashes}", wanted), container)


def judge_hibernation(said: Storage, container: str) -> Finding:
    """The node does not write its memory to a disk to sleep."""
    wanted = f"a kernel that cannot, or {', '.join(_SLEEP)} masked and no resume= on its command line"
    state, _, disk = said.parts.get("power", "").partition("\n")
    if "disk" not in state.split() or disk.strip() == "[disabled]":
        return Finding(kept=True, found="this kernel does not hibernate", wanted=wanted)
    states = said.parts.get("sleep", "").split()
    wrong = [
        f"{unit}: {how}"
        for unit, how in zip(_SLEEP, [*states, *("no answer" for _ in _SLEEP)], strict=False)
        if not how.startswith("masked")
    ]
    wrong += [word for word in said.parts.get("command", "").split() if word.startswith("resume=")]
    return _here(Finding(not wrong, lines(wrong, otherwise="masked"), wanted), container)


def judge_mounted(said: Storage, disks: Sequence[Disk]) -> Finding:
    """Every place that the inventory names is mounted from its own drive's volume."""
    wrong, count = [], 0
    for disk in disks:
        mapped = f"/dev/mapper/{disk.name}"
        device = said.devices.get(mapped)
        if device is None or device.kind != "crypt":
            wrong.append(f"{disk.name}: not open")
        elif device.serial != disk.serial:
            wrong.append(f"{disk.name}: on the drive {device.serial or 'without a serial number'}")
        base = f"{VOLUMES}/{disk.name}"
        for place, root in ((base, "/"), *((place, place) for place in disk.mounts)):
            _, _, source, part = said.mounts.get(place, ("", "", "nothing", ""))
            count += 1
            if (source, part) != (mapped, root):
                wrong.append(f"{place}: {source}{part if part not in {'', '/'} else ''} is mounted")
    wanted = "; ".join(f"{', '.join(disk.mounts)} on {disk.name} (drive {disk.serial})" for disk in disks)
    return Finding(not wrong, lines(wrong, otherwise=f"{count} mounts, all from their volumes"), wanted)


def judge_opening(said: Storage, disks: Sequence[Disk]) -> Finding:
    """A volume opens as the inventory says and in no other way, but by the passphrase of the escrow."""
    rows = [line.split() for line in said.parts.get("crypttab", "").splitlines()]
    table = {row[0]: row[1:] for row in rows if row and not row[0].startswith("#")}
    wrong = []
    for disk in disks:
        wrong += [f"{disk.name}: crypttab: {why}" for why in _entry(disk, table.get(disk.name))]
        wrong += [f"{disk.name}: header: {why}" for why in _header(disk, said)]
    wanted = "; ".join(
        f"{disk.name} by the passphrase"
        + (f" and the TPM (registers {', '.join(map(str, disk.pcrs))})" if disk.pcrs else "")
        for disk in disks
    )
    return Finding(not wrong, lines(wrong, otherwise=f"{len(disks)} as the inventory says"), wanted)


def _entry(disk: Disk, row: list[str] | None) -> Iterator[str]:
    """What is wrong with a line of crypttab(5)."""
    if row is None:
        yield "no line"
        return
    _, key, options = (*row, *("none",) * (2 - len(row)), "")[:3]
    words = options.split(",")
    if key not in {"none", "-"}:
        yield f"a key file, {key}"
    tokens = {word.partition("=")[0] for word in words if word.endswith(("=auto",)) or "-device=" in word}
    if tokens != ({"tpm2-device"} if disk.unlock == "tpm2" else set()):
        yield f"opened by {', '.join(sorted(tokens)) or 'nothing'}"
    if ("noauto" in words) != (disk.unlock == "ssh"):
        yield "noauto" if "noauto" in words else "opened at the start"


def _header(disk: Disk, said: Storage) -> Iterator[str]:
    """What is wrong with the keyslots and tokens of a LUKS2 header."""
    path = next(
        (
            path
            for path, one in said.devices.items()
            if one.serial == disk.serial and f"luks {path}" in said.parts
        ),
        "",
    )
    try:
        values = json.loads(said.parts[f"luks {path}"])
        tokens = [(str(one["type"]), one) for one in values["tokens"].values() if one["type"] != TOKEN]
        slots = len(values["keyslots"])
    except (ValueError, KeyError, TypeError, AttributeError):
        yield "none that can be read"
        return
    kinds = sorted(kind for kind, _ in tokens)
    if kinds != (["systemd-tpm2"] if disk.unlock == "tpm2" else []):
        yield f"tokens: {', '.join(kinds) or 'none'}"
    elif disk.unlock == "tpm2" and sorted(tokens[0][1].get("tpm2-pcrs") or ()) != sorted(disk.pcrs):
        yield f"bound to registers {tokens[0][1].get('tpm2-pcrs')}"
    if slots != (expected := 2 if disk.unlock == "tpm2" else 1):
        yield f"{slots} keyslots instead of {expected}"


def _here(finding: Finding, container: str) -> Finding:
    """In a container, memory and swap are its host's."""
    if finding.kept or not container:
        return finding
    return not_run(f"these are its host's ({container}): {finding.found}", wanted=finding.wanted)
