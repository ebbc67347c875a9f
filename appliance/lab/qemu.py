"""How a virtual machine is put together: QEMU's command lines.  Pure.

QEMU emulates everything in software and so runs where hardware virtualisation is missing.  The machine
is one of the Q35 kind with a processor of 2013, the oldest that inference engines are compiled for.  Its
disk is virtio's, because QEMU cannot keep the state of an emulated NVMe drive; the NVMe drive, empty, is
plugged into a port of its own when the machine begins.  So are the network interfaces, because a copy of
a machine that had seen one would keep its MAC address.  The ports have fixed addresses, so the interfaces
have the same names whenever they are plugged in: enp1s0, enp2s0, enp3s0, and enp4s0 if there is a second
card on the data segment.  A sixth port is for the way to simulated drives (``slots``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.lab.slots import slots_mac

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.lab.plan import Node

# One: with two, QEMU 10.0.13 aborted in one of some forty boots (iotlb_to_section), when the firmware
# changed the map of memory under the other's feet.
CPUS = 1
MEMORY_MIB = 2048
DISK_BYTES = 8 * 2**30
DRIVE_BYTES = 4 * 2**30
PORTS = 6
# Where the NVMe drive is, and the card that the way to simulated drives begins at.
_DRIVE_PORT, _SLOTS_PORT = 5, 6
# What its cards say they carry a second.
_MEGABITS = 100_000
# Where in the firmware's configuration the guest finds who it is; see machine_recipe.
IDENTITY = "opt/appliance-lab/identity"

_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_DATA = ("usr/share/qemu", "usr/share/seabios")
# Without three things that only hardware does.  One of 2008 boots in an eighth less time, and the wheels of
# engines end there with an illegal instruction.
_PROCESSOR = "Haswell-noTSX,-tsc-deadline,-invpcid,-pcid"
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
# mitigations cost time and guard nothing here; the rest is the stock kernel's own choice.
_KERNEL_LINE = "root=/dev/vda rw console=ttyS0 quiet mitigations=off"


@dataclass(frozen=True)
class Image:
    """A virtual machine's disk and the state of one that has booted from it, in one folder of the cache."""

    folder: Path

    @property
    def qemu(self) -> Path:
        """The root file system that QEMU is in."""
        return self.folder / "qemu"

    @property
    def disk(self) -> Path:
        """The disk of a machine that was never booted; raw."""
        return self.folder / "disk.img"

    @property
    def booted_disk(self) -> Path:
        """The disk of the machine that has booted and waits for its identity; a layer on ``disk``."""
        return self.folder / "booted.qcow2"

    @property
    def booted_state(self) -> Path:
        """Memory and devices of that machine, as QEMU migrates them."""
        return self.folder / "booted.state"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd.img"


@dataclass(frozen=True)
class Disks:
    """A node's own disks, in its folder: a layer on the image's, and the NVMe drive."""

    folder: Path

    @property
    def system(self) -> Path:
        return self.folder / "system.qcow2"

    @property
    def drive(self) -> Path:
        return self.folder / "drive.qcow2"

    @property
    def identity(self) -> Path:
        """A tar archive of the files that make a machine this one."""
        return self.folder / "identity.tar"

    @property
    def captures(self) -> Path:
        return self.folder / "capture"

    def capture(self, boot: int, purpose: str) -> Path:
        """Frames seen on an interface since the machine was switched on the ``boot``-th time; pcap."""
        return self.captures / f"{boot}-{purpose}.pcap"

    def sent(self, boot: int, purpose: str) -> Path:
        """Of these, what the machine sent, whatever address it sent from."""
        return self.captures / f"{boot}-{purpose}-sent.pcap"


def program(qemu: Path, name: str) -> list[str]:
    """The command that runs a program of QEMU's root with the libraries it was built with."""
    folders = (qemu / _LIBRARIES / part for part in ("", "pulseaudio", "swtpm"))
    libraries = ":".join(str(folder) for folder in folders)
    return [str(qemu / "usr/lib64/ld-linux-x86-64.so.2"), "--library-path", libraries, str(qemu / name)]


def environment(qemu: Path) -> dict[str, str]:
    """The environment QEMU's programs run with."""
    return {"QEMU_MODULE_DIR": str(qemu / _LIBRARIES / "qemu"), "LC_ALL": "C.UTF-8"}


def layer_command(image: Image, layer: Path, below: str, kind: str) -> list[str]:
    """The command that makes an empty layer on another disk; what is written goes into the layer.

    Args:
        image: for its QEMU.
        layer: the file to make.
        below: the disk below; a relative path is relative to the layer's folder.
        kind: ``raw`` or ``qcow2``, the format of ``below``.
    """
    create = ["create", "-q", "-f", "qcow2", "-b", below, "-F", kind, str(layer)]
    return [*program(image.qemu, "usr/bin/qemu-img"), *create]


def drive_command(image: Image, drive: Path) -> list[str]:
    """The command that makes an empty drive."""
    create = ["create", "-q", "-f", "qcow2", str(drive), str(DRIVE_BYTES)]
    return [*program(image.qemu, "usr/bin/qemu-img"), *create]


def template_command(image: Image, console: Path, monitor: int) -> list[str]:
    """The command that boots the machine which the others are copies of.  It has no network.

    Args:
        image: what to boot; its ``booted_disk`` is written to.
        console: file for what it prints.
        monitor: descriptor of a connected socket, for QMP.
    """
    return [
        *_machine(image, console),
        *_disk(image.booted_disk, "unsafe"),
        *_monitor("keeper", f"socket,id=keeper,fd={monitor}"),
    ]


def boot_command(
    image: Image,
    node: Node,
    disks: Disks,
    *,
    console: Path,
    taps: Mapping[str, int],
    monitor: int,
    listening: int,
    restored: bool,
    capture: int | None,
    slots: int | None = None,
    tpm: int | None = None,
) -> list[str]:
    """The command that runs a node and lasts as long as it is switched on.

    Args:
        image: what the node is made from.
        node: the node.
        disks: its own files.
        console: file that what it prints is added to.
        taps: purpose of each interface to the descriptor of its tap device.
        monitor: descriptor of a connected socket, for QMP.
        listening: descriptor of a listening socket, for QMP too.
        restored: whether it goes on where the booted machine was left; then ``plugged`` is to be plugged
            in once it runs.
        capture: keep frames, in files of this number of the boot.
        slots: descriptor of the tap device that simulated drives are behind, if there are any.
        tpm: descriptor of a connected socket, for swtpm's control channel, if there is a TPM.
    """
    command = [
        *_machine(image, console),
        *_disk(disks.system, "writeback"),
        *("-blockdev", _json(_qcow2("drive", disks.drive, "writeback"))),
        *("-fw_cfg", f"name={IDENTITY},file={disks.identity}"),
        *_monitor("keeper", f"socket,id=keeper,fd={monitor}"),
        *_monitor("others", f"socket,id=others,fd={listening},server=on,wait=off"),
    ]
    for purpose, tap in taps.items():
        command += ["-netdev", f"tap,id={purpose},fd={tap}"]
        if capture is not None:
            both, sent = disks.capture(capture, purpose), disks.sent(capture, purpose)
            command += ["-object", f"filter-dump,id=dump-{purpose},netdev={purpose},file={both}"]
            # To the netdev's receive queue goes what the machine's card sends (qemu(1), "queue").
            sent_only = f"filter-dump,id=sent-{purpose},netdev={purpose},queue=rx,file={sent}"
            command += ["-object", sent_only]
    if slots is not None:
        command += ["-netdev", f"tap,id=slots,fd={slots}"]
    if tpm is not None:
        command += ["-chardev", f"socket,id=tpm,fd={tpm}", "-tpmdev", "emulator,id=tpm,chardev=tpm"]
        command += ["-device", "tpm-crb,tpmdev=tpm"]
    if restored:
        return [*command, "-incoming", f"file:{image.booted_state}"]
    return [*command, *(part for device in plugged(node) for part in ("-device", _json(device)))]


def plugged(node: Node) -> list[dict[str, str | int]]:
    """What is plugged into the machine's ports, as QMP's ``device_add`` takes it."""
    devices: list[dict[str, str | int]] = [
        {
            "driver": "virtio-net-pci",
            "id": f"nic-{nic.purpose}",
            "netdev": nic.purpose,
            "mac": nic.mac,
            "bus": f"port{number}",
            "romfile": "",
            # Otherwise not known, and a bond of mode 802.3ad takes such a card for one without a cable.
            "speed": _MEGABITS,
            "duplex": "full",
        }
        for number, nic in enumerate(node.nics, 1)
    ]
    if node.drives:
        slots = {"driver": "virtio-net-pci", "id": "nic-slots", "netdev": "slots", "mac": slots_mac(node)}
        devices.append({**slots, "bus": f"port{_SLOTS_PORT}", "romfile": ""})
    serial = f"PRACTICE{node.segment:03d}{node.host:03d}"
    return [
        *devices,
        {"driver": "nvme", "id": "nvme", "drive": "drive", "serial": serial, "bus": f"port{_DRIVE_PORT}"},
    ]


def _machine(image: Image, console: Path) -> list[str]:
    """What the booted machine and its copies must have alike."""
    data = [part for folder in _DATA for part in ("-L", str(image.qemu / folder))]
    ports = [f"pcie-root-port,id=port{n},addr={0x10 + n:#x},chassis={n},slot={n}" for n in _range()]
    devices = ["virtio-blk-pci,drive=system,addr=0x4,serial=system", "virtio-rng-pci,addr=0x5"]
    # Tells the guest's kernel that it is a copy, and the kernel draws new randomness.
    devices.append("vmgenid,guid=auto")
    return [
        *program(image.qemu, "usr/bin/qemu-system-x86_64"),
        *data,
        *("-nodefaults", "-no-user-config", "-display", "none", "-sandbox", _SANDBOX),
        *("-machine", "q35,usb=off,smm=off", "-cpu", _PROCESSOR, "-accel", "tcg,thread=multi,tb-size=512"),
        *("-smp", str(CPUS), "-m", str(MEMORY_MIB)),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", _KERNEL_LINE),
        *(part for device in (*devices, *ports) for part in ("-device", device)),
        *("-chardev", f"file,id=console,path={console},append=on", "-serial", "chardev:console"),
    ]


def _range() -> range:
    return range(1, PORTS + 1)


def _disk(path: Path, cache: str) -> list[str]:
    return ["-blockdev", _json(_qcow2("system", path, cache))]


def _qcow2(name: str, path: Path, cache: str) -> dict[str, object]:
    """A disk image; ``unsafe``: what the guest flushes need not reach this machine's disk."""
    caching = {"direct": False, "no-flush": cache == "unsafe"}
    file = {"driver": "file", "filename": str(path), "cache": caching}
    return {"driver": "qcow2", "node-name": name, "discard": "unmap", "cache": caching, "file": file}


def _monitor(name: str, socket: str) -> list[str]:
    return ["-chardev", socket, "-mon", f"chardev={name},mode=control"]


def _json(values: Mapping[str, object]) -> str:
    return json.dumps(values, sort_keys=True)
