"""Whether the files have the sizes that were signed: asked before anything long is hashed.

To open a short file and ask for its size takes a tenth of the time that hashing it takes.  So where
there are thousands of these, their sizes are found by who hashes them, and only the others are asked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from appliance.counting import counted
from appliance.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from appliance.bundle.fileset import ListedFiles
    from appliance.bundle.opening import BundleTree

#: Hashing this many bytes takes a hundred times as long as opening a file to ask for its size.
WORTH_ASKING: Final = 1 << 20


def measure(tree: BundleTree, files: ListedFiles, numbers: Iterable[int]) -> None:
    """Look at the sizes of some files, by their numbers in the list.

    Raises:
        DigestMismatch: some have another size than was signed; naming the first.
        FileMissing, FileUnexpected: one is not there, or not a plain file.
    """
    wrong: dict[int, int] = {}
    with tree.cursor() as cursor:
        for number in numbers:
            fd, found = cursor.open(files.listing.paths[number])
            os.close(fd)
            if found.st_size != files.sizes[number]:
                wrong[number] = found.st_size
    refuse_sizes(files, wrong)


def refuse_sizes(files: ListedFiles, wrong: Mapping[int, int]) -> None:
    """Refuse files of another size than was signed.

    Args:
        files: every listed file.
        wrong: the sizes found of those that have another, by their numbers in the list; in its order.

    Raises:
        DigestMismatch: there are any; naming the first.
    """
    if not wrong:
        return
    first = next(iter(wrong))
    raise DigestMismatch(
        f"another size than was signed: {counted(len(wrong), 'file')}, first {files.listing.paths[first]}",
        found=f"{wrong[first]:,} bytes",
        wanted=f"{files.sizes[first]:,} bytes",
        hint="copy these files again from their medium: "
        + ", ".join(files.listing.paths[number] for number in list(wrong)[:10]),
    )
