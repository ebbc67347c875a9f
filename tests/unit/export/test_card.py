"""What a card does by itself is switched off and told: a driver that answers ethtool's requests, and sysfs.

The driver is a small counterpart in memory that speaks the structures of linux/ethtool.h; what devlink
prints is as iproute2 forms it.  Real drivers are virtio's (tests/vm) and those of the hardware checklist.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import ExportLineDown, ToolMissing
from appliance.export.line import card, raising, roce

if TYPE_CHECKING:
    from pathlib import Path

PCI = "0000:18:00.1"
GWOL, SWOL, GPAUSE, SPAUSE, GSTRINGS, GPFLAGS, SPFLAGS, GSSET = (
    *(0x05, 0x06, 0x12, 0x13),
    *(0x1B, 0x27, 0x28, 0x37),
)


@dataclass
class Driver:
    """Answers as a driver would; what it does not have it refuses, as an empty answer."""

    pause: tuple[int, int] | None = (1, 1)
    wake: int | None = 0x20
    flags: dict[str, bool] = field(default_factory=lambda: {"legacy-rx": True, "disable-fw-lldp": False})

    def asked(self, _: object, __: str, request: bytes) -> bytes:
        (command,) = struct.unpack_from("=I", request)
        if command == GPAUSE and self.pause:
            return struct.pack("=4I", command, 1, *self.pause)
        if command == SPAUSE and self.pause:
            _, negotiated, *self.pause = struct.unpack("=4I", request)  # type: ignore[assignment]
            assert negotiated == 0, "else the other end has a say"
            return request
        if command == GWOL and self.wake is not None:
            return struct.pack("=3I8x", command, 0x3F, self.wake)
        if command == SWOL and self.wake is not None:
            self.wake = struct.unpack_from("=3I", request)[2]
            return request
        return self._private(command, request) if self.flags else b""

    def _private(self, command: int, request: bytes) -> bytes:
        bits = sum(1 << at for at, is_on in enumerate(self.flags.values()) if is_on)
        if command == GSSET:
            return struct.pack("=2IQI", command, 0, 1 << 2, len(self.flags))
        if command == GSTRINGS:
            return struct.pack("=3I", command, 2, len(self.flags)) + b"".join(
                each.encode().ljust(32, b"\0") for each in self.flags
            )
        if command == GPFLAGS:
            return struct.pack("=2I", command, bits)
        if command == SPFLAGS:
            (bits,) = struct.unpack_from("=I", request, 4)
            self.flags = {name: bool(bits >> at & 1) for at, name in enumerate(self.flags)}
            return request
        return b""


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The card ``eno9`` in sysfs, on PCI, with four virtual functions."""
    found = tmp_path / "devices/pci0000:17" / PCI
    found.mkdir(parents=True)
    (found / "sriov_numvfs").write_text("4\n")
    (tmp_path / "net/eno9").mkdir(parents=True)
    (tmp_path / "net/eno9/device").symlink_to(found)
    monkeypatch.setattr(card, "_NETWORK", tmp_path / "net")
    return found


def states(found: list[card.Trait]) -> dict[str, str]:
    return {each.name: each.state for each in found}


def test_what_a_card_does_by_itself_is_switched_off(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    monkeypatch.setattr(card, "_asked", driver.asked)
    on = {"pause": "on", "wake-on-lan": "on", "lldp-agent": "on", "sr-iov": "on"}
    beside = {"roce": "not there", "nc-si": "not known"}
    assert states(card.traits("eno9")) == {**on, **beside}
    assert states(card.silence("eno9")) == {**dict.fromkeys(on, "off"), **beside}
    assert (driver.pause, driver.wake) == ([0, 0], 0)
    assert driver.flags == {"legacy-rx": True, "disable-fw-lldp": True}, "and nothing else of the driver's"
    assert (device / "sriov_numvfs").read_text() == "0"


@pytest.mark.usefixtures("device")
def test_the_other_driver_s_flag_is_on_while_the_agent_is(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(flags={"fw-lldp-agent": True})
    monkeypatch.setattr(card, "_asked", driver.asked)
    assert states(card.traits("eno9"))["lldp-agent"] == "on"
    card.silence("eno9")
    assert driver.flags == {"fw-lldp-agent": False}


@pytest.mark.usefixtures("device")
def test_what_a_driver_refuses_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays on makes the qualification fail: see ``judge_card``."""
    driver = Driver()

    def deaf(_: object, __: str, request: bytes) -> bytes:
        is_order = struct.unpack_from("=I", request)[0] in {SPAUSE, SWOL, SPFLAGS}
        return b"" if is_order else driver.asked(_, __, request)

    monkeypatch.setattr(card, "_asked", deaf)
    found = states(card.silence("eno9"))
    assert {found[name] for name in ("pause", "wake-on-lan", "lldp-agent")} == {"on"}


def test_a_card_that_has_none_of_it_says_so(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (device / "sriov_numvfs").unlink()
    monkeypatch.setattr(card, "_asked", Driver(pause=None, wake=None, flags={}).asked)
    found = states(card.silence("eno9"))
    # Firmware may have an agent that no flag of its driver tells of, as ConnectX cards' has.
    unknown = dict.fromkeys(("lldp-agent", "nc-si"), "not known")
    assert found == {**dict.fromkeys(found, "not there"), **unknown}


def test_a_virtual_card_has_nothing_that_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card, "_NETWORK", tmp_path)
    monkeypatch.setattr(card, "_asked", Driver(pause=None, wake=None, flags={}).asked)
    assert set(states(card.traits("veth0")).values()) == {"not there"}


def told(**values: bool) -> str:
    """What ``devlink -json dev param show`` prints."""
    listed = [{"cmode": mode, "value": value} for mode, value in values.items()]
    parameter = {"name": "enable_roce", "type": "generic", "values": listed}
    return json.dumps({"param": {f"pci/{PCI}": [parameter]}})


@dataclass
class Devlink:
    """The program, and a card that has the parameter in these modes."""

    values: dict[str, bool]
    orders: list[str] = field(default_factory=list)
    stuck: bool = False

    def __call__(self, *command: str, text: str = "") -> str:
        words = " ".join(command)
        if " show " in words:
            if not self.values:
                raise ExportLineDown("devlink failed", found="kernel answers: No such device")
            return told(**self.values)
        self.orders.append(words)
        if " set " in words:
            self.values[command[-1]] = command[-3] == "true"
        if " reload " in words and self.stuck:
            raise ExportLineDown("devlink failed", found="kernel answers: Device or resource busy")
        return ""


SET = f"devlink dev param set pci/{PCI} name enable_roce value false cmode"
RELOAD = f"devlink dev reload pci/{PCI}"


@pytest.mark.parametrize(
    ("values", "orders"),
    [
        ({"driverinit": True}, [f"{SET} driverinit", RELOAD]),
        ({"runtime": True}, [f"{SET} runtime"]),
        ({"driverinit": False}, []),
        ({"permanent": True}, []),
        ({}, []),
    ],
)
def test_roce_is_switched_off_where_the_driver_can(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, bool], orders: list[str]
) -> None:
    program = Devlink(dict(values))
    monkeypatch.setattr(roce, "run", program)
    assert roce.switch_off(PCI) is (RELOAD in orders)
    assert program.orders == orders
    assert not roce.switch_off(""), "a card that is not on PCI"


def test_what_the_driver_did_not_take_up_is_not_said_to_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a parameter that waits for the driver's start, devlink tells what it will be, not what it is."""
    program = Devlink({"driverinit": True}, stuck=True)
    monkeypatch.setattr(roce, "run", program)
    for _ in range(2):  # whoever tries again
        with pytest.raises(ExportLineDown, match="devlink failed"):
            roce.switch_off(PCI)
        assert roce.read_settings(PCI) == {"driverinit": True}
    program.stuck = False
    assert roce.switch_off(PCI)
    assert program.orders[-1] == RELOAD


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({}, "on"),
        ({"driverinit": True}, "on"),
        ({"permanent": True}, "on"),
        ({"driverinit": False}, "off"),
    ],
)
def test_a_card_with_rdma_devices_has_roce_unless_the_driver_says_no(
    device: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, bool], state: str
) -> None:
    (device / "infiniband/mlx5_0").mkdir(parents=True)
    monkeypatch.setattr(card, "_asked", Driver().asked)
    monkeypatch.setattr(roce, "run", Devlink(values))
    (found,) = (each for each in card.traits("eno9") if each.name == "roce")
    assert (found.state, found.detail) == (state, "mlx5_0")


def test_without_the_program_a_card_is_as_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: str, **__: Any) -> str:
        raise ToolMissing("devlink is not installed here")

    monkeypatch.setattr(roce, "run", missing)
    assert roce.read_settings(PCI) == {}


def test_a_card_that_came_up_anew_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name may be another one; and if it does not come, the line is not put up."""
    looks = iter([("eno9", "mac", PCI)])

    def look(*_: object) -> tuple[str, str, str]:
        for each in looks:
            return each
        raise ExportLineDown("0 cards have it")

    monkeypatch.setattr(raising, "lower_line", lambda *_: False)
    monkeypatch.setattr(raising, "look_for_card", look)
    monkeypatch.setattr(raising.roce, "switch_off", lambda pci: pci == PCI)
    monkeypatch.setattr(raising, "run", lambda *_: "")
    with pytest.raises(ExportLineDown, match="0 cards"):
        raising.raise_line(None, patience=0)  # type: ignore[arg-type] # no further than the card


def test_a_card_whose_roce_stays_on_has_its_link_off(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = []

    def stuck(_: str) -> bool:
        raise ExportLineDown("devlink failed")

    monkeypatch.setattr(raising, "lower_line", lambda *_: False)
    monkeypatch.setattr(raising, "look_for_card", lambda *_: ("eno9", "mac", PCI))
    monkeypatch.setattr(raising.roce, "switch_off", stuck)
    monkeypatch.setattr(raising, "run", lambda *command: orders.append(" ".join(command)))
    with pytest.raises(ExportLineDown, match="devlink failed"):
        raising.raise_line(None, patience=0)  # type: ignore[arg-type] # no further than the card
    assert orders == ["ip link set dev eno9 down"]
