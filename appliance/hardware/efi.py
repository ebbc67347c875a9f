"""UEFI variables: whether secure boot is on, and which certificates a kernel accepts modules by.

A variable in efivarfs begins with four bytes of attributes (Linux, Documentation/filesystems/efivarfs);
what follows is the value.  Lists of certificates are EFI_SIGNATURE_LISTs (UEFI Specification 2.10, section
32.4.1).
"""

from __future__ import annotations

import struct
import uuid
from typing import Final

#: EFI_CERT_X509_GUID: a DER certificate.
X509: Final = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_ATTRIBUTES: Final = 4
_OWNER: Final = 16
#: Type, size of the list, of its header, of each signature.
_LIST: Final = struct.Struct("<16sIII")


def secure_boot_on(variable: bytes) -> bool | None:
    """Whether ``SecureBoot`` says that it is on; None where the variable is not there or malformed."""
    value = variable[_ATTRIBUTES:]
    return value == b"\x01" if value in {b"\x00", b"\x01"} else None


def certificates(lists: bytes) -> tuple[bytes, ...]:
    """The DER certificates in signature lists; what follows a malformed list is left out."""
    found: list[bytes] = []
    start = 0  # and no copy of the rest for each list: a node may send many of no content
    while len(lists) - start >= _LIST.size:
        kind, whole, header, size = _LIST.unpack_from(lists, start)
        if whole < _LIST.size + header or whole > len(lists) - start:
            break
        if kind == X509.bytes_le and size > _OWNER:
            first, end = start + _LIST.size + header, start + whole
            found += [lists[at + _OWNER : at + size] for at in range(first, end - size + 1, size)]
        start += whole
    return tuple(found)
