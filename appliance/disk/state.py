"""How a drive stands, from what was read of it without a session: values in, a state with reasons out.

The rules:

* ``owner``: "nobody" only where the drive itself says that SID's PIN is the one that everybody can read
  (feature Block SID Authentication) and its Locking SP is off.  "somebody" where either is otherwise.  A
  drive that has no such feature and is off is "unknown": some makers ship drives whose PIN nobody can read,
  and finding out would cost a try.
* ``tcg``: "no" where the drive ends the command as unknown to it, names no SSC, or (other than NVMe) is
  none that sed-opal takes; "unknown" where it could not be asked.
* ``enrolled``: its LUKS2 header names the drive's encryption and has a keyslot, somebody owns it, and its
  Locking SP is on.  Or the header names dm-crypt alone, and nobody is known to own the drive, who could
  lock it.
* Nothing is refused here: what of it stands against enrolment is ``appliance.disk.fitness``.

NVM Express Base 1.4, Figures 126 and 127: status codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from appliance.disk.discovery import Discovery, parse_discovery
from appliance.disk.firmware import Known, judge_firmware
from appliance.disk.luks import LuksHeader, parse_luks
from appliance.disk.use import Use, read_use
from appliance.errors import DriveUnreadable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT: Final = 2

Owner = Literal["nobody", "somebody", "unknown"]
Tcg = Literal["yes", "no", "unknown"]

#: Invalid Command Opcode, Invalid Field in Command; whatever is said besides, as Do Not Retry.
_NO_SUCH_COMMAND: Final = frozenset({0x01, 0x02})
_STATUS_CODE: Final = 0x7FF


@dataclass(frozen=True, slots=True)
class Drive:
    """A drive as it was found.

    Attributes:
        name: the kernel's, as nvme0n1.
        model, serial, firmware: as the drive says them.
        transport: pcie, tcp, sata, sas, usb; empty where it does not show.
        namespace: NVMe's identifier of it; empty for others.
        namespaces: how many the drive has that this node sees.
        wwid: of the device, as sysfs has it; empty where it has none.
        size, block_size: bytes.
        writable, removable: as the kernel says.
        tcg: whether it is a TCG drive at all.
        discovery: what it says of itself; None where it says nothing that can be read.
        trouble: why there is no discovery; empty where there is, or nothing to be had.
        owner: whether somebody has taken ownership.
        taken: whether Linux's sed-opal takes it.
        use: None where nobody knows.
        luks: a LUKS2 header on the whole drive.
        known: what the list of firmware says.
    """

    name: str
    model: str
    serial: str
    firmware: str
    transport: str
    namespace: str
    namespaces: int
    wwid: str
    size: int
    block_size: int
    writable: bool
    removable: bool
    tcg: Tcg
    discovery: Discovery | None
    trouble: str
    owner: Owner
    taken: bool
    use: Use | None
    luks: LuksHeader | None
    known: Known

    @property
    def path(self) -> str:
        """Its device node."""
        return f"/dev/{self.name}"

    @property
    def enrolled(self) -> bool:
        """Whether cryptsetup has encrypted it, and what its header names encrypts."""
        if self.luks is None or self.unfinished:
            return False
        if self.luks.layer == "dm-crypt":
            return self.owner != "somebody"
        return self.has_opal_header and self.owner == "somebody" and self.locking

    @property
    def may_have_keys(self) -> bool:
        """Whether it may have keys that somebody gave it: not if it is known to be as it was made."""
        return self.owner == "somebody" or self.luks is not None or self.tcg == "unknown"

    @property
    def locking(self) -> bool:
        """Whether its Locking SP is on: without it no range has a key, and nothing is locked."""
        return self.discovery is not None and bool(self.discovery.locking_enabled)

    @property
    def has_opal_header(self) -> bool:
        """Whether its LUKS2 header says that the drive encrypts."""
        return self.luks is not None and self.luks.layer in {"opal", "opal and dm-crypt"}

    @property
    def unfinished(self) -> bool:
        """Whether its header has no keyslot: cryptsetup writes the header first, and was cut off then."""
        return self.luks is not None and self.luks.layer is not None and self.luks.keyslots == 0


@dataclass(frozen=True, slots=True)
class Host:
    """What encrypting needs besides the drive: kernel, cryptsetup's version line, whether root read."""

    kernel: str
    cryptsetup: str
    root: bool


def read_state(readings: Mapping[str, Any]) -> tuple[Host, tuple[Drive, ...]]:
    """Make sense of what ``appliance_drive_readings`` read on a node.

    Raises:
        DriveUnreadable: it is not that, or of another version of it.
    """
    try:
        if readings["format"] != FORMAT:
            raise _foreign(f"format {readings['format']!r}")
        entries: Sequence[Mapping[str, Any]] = readings["drives"]
        tree = readings["tree"]
        drives = tuple(_drive(entry, entries, tree, readings["swaps"]) for entry in entries)
        return Host(readings["kernel"], readings["cryptsetup"], readings["root"]), drives
    except (KeyError, TypeError, AttributeError) as fault:
        raise _foreign(f"{type(fault).__name__}: {fault}") from fault


def _drive(entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], tree: Any, swaps: str) -> Drive:
    tcg, discovery, trouble = _discovered(entry["discovery"], taken=entry["kernel"])
    serial = entry["serial"]
    return Drive(
        name=entry["name"],
        model=entry["model"],
        serial=serial,
        firmware=entry["firmware"],
        transport=entry["transport"],
        namespace=entry["namespace"],
        namespaces=sum(1 for one in entries if one["serial"] == serial and one["namespace"]),
        wwid=entry["wwid"],
        size=entry["size"],
        block_size=entry["block_size"],
        writable=not entry["read_only"],
        removable=entry["removable"],
        tcg=tcg,
        discovery=discovery,
        trouble=trouble,
        owner=_owner(discovery),
        taken=entry["kernel"],
        use=None
        if tree is None
        else read_use(entry["name"], tree, swaps, entry["holders"], entry["signatures"]),
        luks=_luks(entry["luks"]),
        known=judge_firmware(entry["model"], entry["firmware"]),
    )


def _discovered(told: Mapping[str, Any], *, taken: bool) -> tuple[Tcg, Discovery | None, str]:
    """Whether it is a TCG drive, what it says, and why it says nothing."""
    if "status" in told:
        status = told["status"] & _STATUS_CODE
        if status in _NO_SUCH_COMMAND:
            return "no", None, ""
        return "unknown", None, f"NVMe status {status:03x}h"
    if told.get("unknown"):
        trouble = "this kernel does not pass it on" if taken else "Linux's sed-opal does not take it"
        return ("unknown" if taken else "no"), None, trouble
    if "error" in told:
        return "unknown", None, told["error"]
    try:
        found = parse_discovery(bytes.fromhex(told["hex"]))
    except (DriveUnreadable, ValueError) as fault:
        found_text = fault.found if isinstance(fault, DriveUnreadable) else str(fault)
        return "unknown", None, f"its answer cannot be read: {found_text}"
    return ("yes" if found.sscs else "no"), found, ""


def _owner(discovery: Discovery | None) -> Owner:
    if discovery is None:
        return "unknown"
    if discovery.locking_enabled or discovery.sid_changed:
        return "somebody"
    return "unknown" if discovery.sid_changed is None else "nobody"


def _luks(told: Mapping[str, Any]) -> LuksHeader | None:
    try:
        return parse_luks(told["json"], told["uuid"]) if told["json"] else None
    except ValueError:
        return None


def _foreign(found: str) -> DriveUnreadable:
    return DriveUnreadable(
        "what was read of the drives cannot be made sense of",
        found=found,
        wanted=f"readings of format {FORMAT}",
        hint="run the toolkit that belongs to these roles",
    )
