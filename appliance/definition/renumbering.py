"""The lock of a definition that differs from a locked one in its numbers alone.

A bundle that is to bring other keys and nothing else needs a higher sequence, and the very artefacts of the
one before.  Locking again would pin what the archives have by now.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from appliance.errors import LockInvalid

if TYPE_CHECKING:
    from appliance.definition.bundle_definition import ReadDefinition
    from appliance.definition.lock import Lock

_SEQUENCE: Final = re.compile(rb"(?m)^(sequence:[ \t]*)[0-9]+")
_VERSION: Final = re.compile(rb"(?m)^(version:[ \t]*)([\"']?)[^\"'#\s]+")


def renumbered(data: bytes, read: ReadDefinition, lock: Lock) -> Lock:
    """Another definition's lock under the sequence and version of this one; its date stays as well.

    That nothing else differs is proven by the digest of the text: with the lock's own numbers in their
    places, it is the text that was locked.

    Args:
        data: the definition's bytes.
        read: the same, read.
        lock: what was pinned for the one before.

    Raises:
        LockInvalid: the texts differ in more, or in nothing.
    """
    version = lock.version.encode("utf-8")
    former = _SEQUENCE.sub(lambda found: found[1] + b"%d" % lock.sequence, data, count=1)
    former = _VERSION.sub(lambda found: found[1] + found[2] + version, former, count=1)
    if (found := hashlib.sha256(former).hexdigest()) != lock.definition or former == data:
        raise LockInvalid(
            "the definition differs from the locked one in more than its numbers"
            if former != data
            else "the definition has the numbers of the locked one",
            found=f"sha256 {found} under sequence {lock.sequence} and version {lock.version}",
            wanted=f"sha256 {lock.definition}, with other numbers",
            hint="change sequence and version alone; or lock it anew, without --keep",
        )
    definition = read.definition
    numbers = {"version": definition.version, "sequence": definition.sequence, "definition": read.digest}
    return lock.model_copy(update=numbers)
