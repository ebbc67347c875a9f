"""What the firmware says: memory by dmidecode, secure boot and certificates by UEFI variables."""

from __future__ import annotations

import struct
import uuid

import pytest

from appliance.hardware.dmi import Firmware, parse_dmidecode
from appliance.hardware.efi import X509, certificates, secure_boot_on
from tests.unit.hardware.nodes import signature_list, text

BLANK = (
    "Handle 0x0001, DMI type 1, 27 bytes\nSystem Information\n\tManufacturer: Supermicro\n"
    "\tProduct Name: SYS-821GE-TNHR\n\n"
    "Handle 0x0000, DMI type 0, 26 bytes\nBIOS Information\n\tVendor: AMI\n\tVersion: 2.1\n"
    "\tRelease Date: 01/02/2026\n\n"
    "Handle 0x0050, DMI type 38, 18 bytes\nIPMI Device Information\n\tInterface Type: KCS\n\n"
    "Handle 0x0024, DMI type 16, 23 bytes\nPhysical Memory Array\n\tUse: Flash Memory\n"
    "\tError Correction Type: None\n\n"
    "Handle 0x0028, DMI type 17, 92 bytes\nMemory Device\n\tTotal Width: Unknown\n"
    "\tSize: No Module Installed\n\tLocator: P0_B0\n"
)


def test_memory_as_recorded_on_a_server() -> None:
    firmware = parse_dmidecode(text("dmidecode-epyc.txt"))
    assert firmware.correction == ("Multi-bit ECC",)
    assert [module.place for module in firmware.modules] == ["DIMM_P0_A0", "DIMM_P1_M0"]
    module = firmware.modules[0]
    assert (module.size, module.kind, module.has_ecc) == (32 << 30, "DDR5", True)
    assert (module.rated, module.configured, module.part) == (5600, 4800, "M321R4GA3PB0-CWMXJ")


def test_system_firmware_and_controller_are_told_and_an_empty_place_is_no_module() -> None:
    assert parse_dmidecode(BLANK) == Firmware(
        "Supermicro", "SYS-821GE-TNHR", "AMI 2.1", "01/02/2026", bmc="KCS"
    )


@pytest.mark.parametrize(
    ("size", "bytes_"),
    [("32 GB", 32 << 30), ("16384 MB", 16 << 30), ("1 TB", 1 << 40), ("512 kB", 512 << 10), ("big", 0)],
)
def test_sizes_are_powers_of_two(size: str, bytes_: int) -> None:
    whole = text("dmidecode-epyc.txt").replace("Size: 32 GB", f"Size: {size}")
    found = [module.size for module in parse_dmidecode(whole).modules]
    assert found == ([bytes_, bytes_] if bytes_ else [])


@pytest.mark.parametrize(("width", "ecc"), [("64 bits", False), ("72 bits", True), ("Unknown", None)])
def test_bits_beside_the_data_are_ecc(width: str, ecc: bool | None) -> None:
    whole = text("dmidecode-epyc.txt").replace("Total Width: 80 bits", f"Total Width: {width}")
    assert [module.has_ecc for module in parse_dmidecode(whole).modules] == [ecc, ecc]


@pytest.mark.parametrize(
    "other", ["", "# dmidecode 3.6\n# No SMBIOS nor DMI entry point found, sorry.\n", "\0"]
)
def test_of_anything_else_nothing_is_read(other: str) -> None:
    assert parse_dmidecode(other) == Firmware()


@pytest.mark.parametrize(
    ("variable", "on"),
    [
        (b"\x06\0\0\0\x01", True),
        (b"\x06\0\0\0\x00", False),
        (b"", None),
        (b"\x01", None),
        (b"\x06\0\0\0\x02", None),
        (b"\x06\0\0\0\x01\x01", None),
    ],
)
def test_secure_boot_is_the_byte_behind_the_attributes(variable: bytes, on: bool | None) -> None:
    assert secure_boot_on(variable) is on


class Watched(bytes):
    """Bytes that add up how many are copied out of them."""

    copied = 0

    def __getitem__(self, where: object) -> object:  # type: ignore[override]
        found = super().__getitem__(where)  # type: ignore[index]
        type(self).copied += len(found) if isinstance(found, bytes) else 1
        return found


def test_a_node_s_many_empty_lists_are_not_copied_again_and_again() -> None:
    empty = X509.bytes_le + struct.pack("<III", 28, 0, 0)
    assert certificates(Watched(empty * 1000 + signature_list(b"one"))) == (b"one",)
    assert Watched.copied == len(b"one")


def test_certificates_are_taken_out_of_their_lists() -> None:
    assert certificates(signature_list(b"one", b"another")) == (b"one", b"another")
    two = X509.bytes_le + struct.pack("<III", 28 + 4 + 2 * 19, 4, 19) + b"head" + (b"o" * 16 + b"abc") * 2
    assert certificates(two) == (b"abc", b"abc"), "one list may hold several of one size, behind a header"


@pytest.mark.parametrize(
    "lists",
    [
        b"",
        b"short",
        signature_list(b"one", kind=uuid.UUID("c1c41626-504c-4092-aca9-41f936934328").bytes_le),  # SHA-256
        X509.bytes_le + struct.pack("<III", 2**31, 0, 20) + b"o" * 20,  # longer than the variable
        X509.bytes_le + struct.pack("<III", 0, 0, 20) + b"o" * 20,  # would never end
        X509.bytes_le + struct.pack("<III", 44, 0, 0) + b"o" * 16,  # signatures of no length
    ],
)
def test_no_certificate_is_read_out_of_anything_else(lists: bytes) -> None:
    assert certificates(lists) == ()
