"""The PSID of a drive's label: what its owner has when everything else is lost.

Written down before the drive is used for the first time, since labels are unreadable once the drive is in.
Labels group its letters with spaces and hyphens, which are not part of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from appliance.disk.private_file import read_private
from appliance.disk.secret import Secret
from appliance.errors import Usage

if TYPE_CHECKING:
    from pathlib import Path

_PSID: Final = re.compile(rb"[0-9A-Za-z]{8,32}")


def read_psid(path: Path) -> Secret:
    """The PSID in a file that nobody else may read.

    Raises:
        Usage: it cannot be read, others may read it, or it holds none.
    """
    return parse_psid(read_private(path))


def parse_psid(text: bytes) -> Secret:
    """A PSID as it was typed.

    Raises:
        Usage: it is none; what was typed is not repeated.
    """
    psid = re.sub(rb"[ \t\r\n-]", b"", text)
    if not _PSID.fullmatch(psid):
        raise Usage(
            "this is no PSID",
            found=f"{len(psid)} characters",
            wanted="8 to 32 letters and digits, as the drive's label has them",
        )
    return Secret(psid)
