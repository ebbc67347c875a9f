"""Whole captures: what is counted, what is named, how it is told; and the two commands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from scapy.compat import raw
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.utils import RawPcapWriter
from typer.testing import CliRunner

from appliance.cli.app import app
from appliance.errors import ApplianceError
from appliance.frames.describe import describe
from appliance.frames.judgement import KEPT, judge_capture, text_of, values_of
from appliance.frames.pcap import Frame
from appliance.lab.places import write_state
from appliance.lab.plan import Lab
from appliance.lab.qemu import Disks
from appliance.lab.site import inventory_text
from tests.unit.frames.site import MGMT, OPERATOR_MAC, TEXT, cable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

runner = CliRunner()
ALLOWED = raw(
    Ether(src=MGMT, dst=OPERATOR_MAC) / IP(src="10.20.0.11", dst="10.20.0.1") / TCP(sport=2022, flags="A")
)
BEYOND = raw(
    Ether(src=MGMT, dst=OPERATOR_MAC)
    / IP(src="10.20.0.11", dst="192.0.2.1")
    / UDP(sport=5353, dport=53)
    / b"example"
)
FAR = raw(Ether(src=OPERATOR_MAC, dst=MGMT) / IP(src="10.20.0.1", dst="10.20.0.11") / TCP(dport=2022))


def frames(*datas: bytes) -> list[Frame]:
    """One a second, from a moment in 2023 on."""
    start = 1_700_000_000_250_000_000
    return [Frame(n, start + n * 10**9, data, len(data)) for n, data in enumerate(datas, 1)]


def write(path: Path, *datas: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with RawPcapWriter(str(path), linktype=1) as writer:
        writer.write_header(None)
        for second, data in enumerate(datas):
            writer.write_packet(data, sec=1_700_000_000 + second, usec=0)
    return path


def test_every_frame_is_counted_and_those_beyond_are_named() -> None:
    judged = judge_capture(
        frames(ALLOWED, FAR, BEYOND, ALLOWED), cable("mgmt"), name="a", far={OPERATOR_MAC}
    )
    assert (judged.sent, judged.allowed["SSH"], judged.others, judged.beyond) == (3, 2, 1, 1)
    assert judged.seconds == 3.0
    values = values_of([judged])
    assert (values["frames"], values["beyond"]) == (3, 1)
    (stray,) = judged.as_dict()["frames_beyond"]
    assert stray == {
        "number": 3,
        "time": "2023-11-14T22:13:23.250000Z",
        "after": 2.0,
        "length": len(BEYOND),
        "source_mac": MGMT,
        "destination_mac": OPERATOR_MAC,
        "vlan": None,
        "ethertype": "0x0800",
        "source": "10.20.0.11",
        "destination": "192.0.2.1",
        "protocol": "UDP",
        "source_port": 5353,
        "destination_port": 53,
        "reason": "UDP to 192.0.2.1 port 53: neither SSH's answer to a management network"
        " nor a flow of mgmt",
    }
    assert "frame 3 at +2.000000 s" in text_of([judged])
    assert "10.20.0.11 port 5353 > 192.0.2.1 port 53" in text_of([judged])


def test_who_is_not_named_as_far_counts_as_the_node() -> None:
    judged = judge_capture(frames(FAR), cable("mgmt"), name="a")
    assert (judged.beyond, judged.others) == (1, 0)


def test_a_frame_that_the_capture_cut_is_beyond_whatever_it_was() -> None:
    whole = frames(ALLOWED)[0]
    judged = judge_capture([Frame(1, whole.nanoseconds, ALLOWED, 1500)], cable("mgmt"), name="a")
    assert judged.beyond == 1
    assert "of 1500 bytes" in judged.strays[0].reason


def test_frames_before_the_first_are_passed_over() -> None:
    judged = judge_capture(frames(BEYOND, BEYOND, ALLOWED), cable("mgmt"), name="a", first=3)
    assert (judged.sent, judged.beyond) == (1, 0)


def test_of_a_flood_the_first_are_kept_and_all_counted() -> None:
    judged = judge_capture(frames(*[BEYOND] * (KEPT + 5)), cable("mgmt"), name="a")
    assert (judged.beyond, len(judged.strays)) == (KEPT + 5, KEPT)
    assert f"and {KEPT + 5 - 20} more" in text_of([judged])


@pytest.mark.parametrize("length", range(len(BEYOND)))
def test_what_nobody_understands_is_described_as_far_as_it_goes(length: int) -> None:
    says = describe(BEYOND[:length])
    assert says.source_mac == BEYOND[6 : min(length, 12)].hex(":")
    assert str(says)


def test_descriptions_of_tags_and_arp() -> None:
    says = describe(raw(Ether(src=MGMT) / Dot1Q(vlan=9) / ARP(psrc="10.20.0.11", pdst="10.20.0.9")))
    assert (says.vlan, says.kind, says.source, says.destination) == (9, 0x0806, "10.20.0.11", "10.20.0.9")


# --- the commands -----------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "inventory.yml").write_text(TEXT)
    return tmp_path


def test_captures_of_a_switch_are_judged(site: Path) -> None:
    clean = write(site / "port7.pcap", ALLOWED, FAR)
    arguments = [
        "frames",
        "gpu-01",
        f"mgmt={clean}",
        "-i",
        str(site),
        "--far",
        OPERATOR_MAC.upper(),
        "--json",
    ]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["captures"][0]["of_others"] == 1
    other = write(site / "port8.pcap", BEYOND)
    result = runner.invoke(app, [*arguments[:-1], f"data0={other}"])
    assert result.exit_code == 8
    assert "3 frames" not in result.stdout
    assert "2 frames, 1 beyond the allowed flows" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "error", "code"),
    [
        (["gpu-02", "mgmt=port7.pcap"], "InventoryInvalid", 3),
        (["gpu-01", "data=port7.pcap"], "Usage", 2),
        (["gpu-01", "port7.pcap"], "Usage", 2),
        (["gpu-01", "mgmt="], "Usage", 2),
        (["gpu-01", "mgmt=port7.pcap", "--far", "10.20.0.1"], "Usage", 2),
        (["gpu-01", "mgmt=missing.pcap"], "CaptureUnreadable", 5),
        (["gpu-01", "mgmt=inventory.yml"], "CaptureUnreadable", 5),
    ],
)
def test_wrong_calls(
    site: Path, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], error: str, code: int
) -> None:
    monkeypatch.chdir(site)
    write(site / "port7.pcap", ALLOWED)
    result = runner.invoke(app, ["frames", *arguments, "-i", str(site)])
    assert isinstance(result.exception, ApplianceError)
    assert (result.exception.name, result.exception.exit_code) == (error, code)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab of one machine that was switched on twice, as far as files go; its captures' folder."""
    monkeypatch.setenv("APPLIANCE_LAB_FOLDER", str(tmp_path / "labs"))
    monkeypatch.setenv("APPLIANCE_LAB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "labs/icu"
    lab = Lab("icu", 7, 1, "0123456789", (1, 2), tmp_path / "cache", machine=True, capture=True)
    captures = Disks(folder / "nodes/icu-01").captures
    captures.mkdir(parents=True)
    write_state(folder, lab)
    (folder / "inventory").mkdir()
    (folder / "inventory/inventory.yml").write_text(inventory_text(lab))
    (management, *others) = lab.nodes[0].nics
    answer = Ether(src=management.mac, dst=OPERATOR_MAC)
    answer /= IP(src="10.77.7.11", dst="10.77.7.1") / TCP(sport=22, flags="A")
    for boot in (1, 2):
        for nic in others:
            write(captures / f"{boot}-{nic.purpose}-sent.pcap")
            write(captures / f"{boot}-{nic.purpose}.pcap", BEYOND)  # both directions: not looked at
        write(captures / f"{boot}-management-sent.pcap", raw(answer))
    return captures


@pytest.mark.usefixtures("lab")
def test_a_machines_boots_are_judged_in_order() -> None:
    result = runner.invoke(app, ["lab", "frames", "icu", "--json"])
    assert result.exit_code == 0, result.output
    captures = json.loads(result.stdout)["captures"]
    assert [(each["capture"], each["interface"], each["frames"]) for each in captures] == [
        (f"boot {boot}", interface, frames)
        for boot in (1, 2)
        for interface, frames in (("mgmt", 1), ("export", 0), ("data", 0))
    ]


def test_a_frame_beyond_is_exit_code_8_and_boots_can_be_chosen(lab: Path) -> None:
    write(lab / "1-data-sent.pcap", BEYOND)
    assert runner.invoke(app, ["lab", "frames", "icu-01"]).exit_code == 8
    assert runner.invoke(app, ["lab", "frames", "icu-01", "--boot", "2"]).exit_code == 0
    assert runner.invoke(app, ["lab", "frames", "icu-01", "-b", "1", "-b", "2"]).exit_code == 8


def test_an_interface_that_the_inventory_does_not_have_may_send_nothing(lab: Path, tmp_path: Path) -> None:
    write(lab / "2-data-sent.pcap", ALLOWED)
    inventory = tmp_path / "labs/icu/inventory/inventory.yml"
    head, _, _ = inventory.read_text().partition("      data:\n")
    (tmp_path / "inventory.yml").write_text(head)
    result = runner.invoke(app, ["lab", "frames", "icu", "-i", str(tmp_path)])
    assert result.exit_code == 8, result.output
    assert "the inventory has no card data" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "error", "code"),
    [
        (["ward"], "LabFailed", 7),
        (["icu", "--boot", "3"], "Usage", 2),
        (["icu-02"], "Usage", 2),
    ],
)
@pytest.mark.usefixtures("lab")
def test_wrong_names_of_labs(arguments: list[str], error: str, code: int) -> None:
    result = runner.invoke(app, ["lab", "frames", *arguments])
    assert isinstance(result.exception, ApplianceError)
    assert (result.exception.name, result.exception.exit_code) == (error, code)


@pytest.mark.usefixtures("lab")
def test_a_lab_whose_frames_are_not_kept_says_how_they_are(tmp_path: Path) -> None:
    plain = Lab("icu", 7, 1, "0123456789", (1, 2), tmp_path / "cache", machine=True)
    write_state(tmp_path / "labs/icu", plain)
    result = runner.invoke(app, ["lab", "frames", "icu"])
    assert isinstance(result.exception, ApplianceError)
    assert "--capture" in str(result.exception.hint)
