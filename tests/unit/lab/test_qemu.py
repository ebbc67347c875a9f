"""How a virtual machine is put together, as data."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.lab.plan import Lab
from appliance.lab.qemu import Disks, Image, boot_command, plugged, template_command

LAB = Lab("ward", 7, 1, "0123456789", (4, 4026531840), Path("/cache/abc/machine"), machine=True)
NODE = LAB.nodes[0]
IMAGE = Image(LAB.root)
DISKS = Disks(Path("/labs/ward/nodes/ward-01"))
TAPS = {"management": 11, "export": 12, "data": 13}


def command(**changes: Any) -> list[str]:
    given = {"console": Path("/c"), "monitor": 7, "listening": 8, "restored": False, "capture": None}
    return boot_command(IMAGE, NODE, DISKS, taps=TAPS, **{**given, **changes})


def options(parts: list[str], name: str) -> list[str]:
    return [value for option, value in itertools.pairwise(parts) if option == name]


def test_a_copy_is_the_machine_it_is_a_copy_of_but_for_what_is_plugged_in() -> None:
    """Whatever QEMU keeps the state of must be the same at both ends."""
    template, copy = template_command(IMAGE, Path("/c"), 7), command(restored=True)
    for option in ("-machine", "-cpu", "-smp", "-m", "-device", "-kernel", "-initrd", "-append"):
        assert options(template, option) == options(copy, option)
    assert options(copy, "-incoming") == ["file:/cache/abc/machine/booted.state"]


def test_booted_from_scratch_it_has_the_same_things_plugged_in_from_the_start() -> None:
    devices = [json.loads(device) for device in options(command(), "-device") if device.startswith("{")]
    assert devices == plugged(NODE)
    assert "-incoming" not in command()


def test_every_interface_has_its_own_port_address_and_cable() -> None:
    *cards, drive = plugged(NODE)
    assert [card["mac"] for card in cards] == [nic.mac for nic in NODE.nics]
    assert [card["bus"] for card in cards] == ["port1", "port2", "port3"]
    assert {(card["speed"], card["duplex"]) for card in cards} == {(100_000, "full")}, "what LACP asks for"
    assert options(command(), "-netdev") == [
        "tap,id=management,fd=11",
        "tap,id=export,fd=12",
        "tap,id=data,fd=13",
    ]
    assert (drive["driver"], drive["bus"]) == ("nvme", "port5")
    assert drive["serial"] != plugged(replace(NODE, host=12))[-1]["serial"]


def test_drives_have_a_port_and_a_cable_of_their_own_that_is_not_captured() -> None:
    node = replace(NODE, drives=2)
    parts = boot_command(
        IMAGE,
        node,
        DISKS,
        console=Path("/c"),
        taps=TAPS,
        monitor=7,
        listening=8,
        restored=False,
        capture=1,
        slots=14,
    )
    *_, slots, drive = plugged(node)
    assert (slots["netdev"], slots["bus"], slots["mac"]) == ("slots", "port6", "02:00:0c:00:07:0b")
    assert drive["driver"] == "nvme"
    assert options(parts, "-netdev")[-1] == "tap,id=slots,fd=14"
    assert not [part for part in options(parts, "-object") if "slots" in part]
    assert "slots" not in json.dumps(plugged(NODE))


def test_a_machine_has_a_tpm_only_while_one_is_in() -> None:
    assert options(command(tpm=15), "-tpmdev") == ["emulator,id=tpm,chardev=tpm"]
    assert "socket,id=tpm,fd=15" in options(command(tpm=15), "-chardev")
    assert "tpm-crb,tpmdev=tpm" in options(command(tpm=15), "-device")
    assert not options(command(), "-tpmdev")
    assert not [part for part in options(command(), "-device") if "tpm" in part]


def test_nothing_leads_out_of_a_machine_but_its_cables() -> None:
    for parts in (command(), command(restored=True), template_command(IMAGE, Path("/c"), 7)):
        assert "-nodefaults" in parts
        assert not [part for part in parts if part.startswith(("user", "bridge", "socket,id=net"))]
    assert "-netdev" not in template_command(IMAGE, Path("/c"), 7)


def test_frames_are_kept_only_when_asked_for_in_a_file_of_the_boot() -> None:
    assert options(command(), "-object") == []
    dumps = options(command(capture=3), "-object")
    assert len(dumps) == 6
    folder = "/labs/ward/nodes/ward-01/capture"
    assert dumps[2:4] == [
        f"filter-dump,id=dump-export,netdev=export,file={folder}/3-export.pcap",
        f"filter-dump,id=sent-export,netdev=export,queue=rx,file={folder}/3-export-sent.pcap",
    ]


def test_what_a_node_flushes_reaches_the_disk_and_the_template_need_not() -> None:
    def flushed(parts: list[str]) -> list[bool]:
        return [not json.loads(disk)["cache"]["no-flush"] for disk in options(parts, "-blockdev")]

    assert flushed(command()) == [True, True]
    assert flushed(template_command(IMAGE, Path("/c"), 7)) == [False]
