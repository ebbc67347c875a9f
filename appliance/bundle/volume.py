"""One open volume: its folder, and what its label says of it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.media.label import LABEL_PATH, MAX_BYTES, UNFINISHED_PATH, parse_label
from appliance.bundle.tree import Tree
from appliance.errors import BundleUntrusted, FileMissing, FileUnexpected

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.media.label import VolumeLabel
    from appliance.bundle.media.layout import Layout

_RESTORED: Final = "`appliance media repair` restores it if another volume is named too"


@dataclass(eq=False)
class Volume:
    """A volume that is open.

    ``label`` is None if there is none to believe, and ``note`` says why; ``name`` is what messages call it:
    by its folder until its number is known.  ``unfinished``: it is still being written, or writing it was
    given up.
    """

    folder: Path
    tree: Tree
    label: VolumeLabel | None
    note: str | None = None
    name: str = ""
    number: int | None = None
    unfinished: bool = False

    def __post_init__(self) -> None:
        self.name = str(self.folder)

    def believe(self, digest: str) -> None:
        """Forget a label that is another bundle's than the one with this digest."""
        if self.label and self.label.bundle != digest:
            self.note = f"the label in {self.folder} is another bundle's: {self.label.bundle}"
            self.label = None

    def call(self, layout: Layout | None, number: int | None) -> None:
        """Name it by its number, where the labels agree on what the numbers mean."""
        if layout and number is not None:
            self.number = number
            self.name = f"{layout.name(number)} ({self.folder})"

    def has(self, path: str) -> bool:
        """Whether something lies at a path; another fault than its absence is for who opens it."""
        try:
            with self.tree.open(path):
                return True
        except FileMissing:
            return False
        except BundleUntrusted:
            return True

    @contextmanager
    def named(self) -> Iterator[None]:
        """Let an error say on which volume it was met."""
        try:
            yield
        except BundleUntrusted as fault:
            if str(self.folder) not in fault.message:
                fault.message = f"{self.name}: {fault.message}"
            raise


def name_by_contents(
    volumes: Sequence[Volume], layout: Layout | None, where: Mapping[str, Volume]
) -> set[int]:
    """Call each volume what it is by the files on it, whatever its label says.

    Args:
        volumes: all that were given.
        layout: which volume holds what, if the labels tell it.
        where: for each file of a share the volume it was found on.

    Returns:
        the numbers of the volumes that are here: one file of a share, or else a label, is enough.
    """
    if not layout:
        return set()
    here: dict[Volume, set[int]] = {volume: set() for volume in volumes}
    for path, volume in where.items():
        here[volume].add(layout.volume_of(path))
    for volume, numbers in here.items():
        if not numbers and volume.label:
            numbers.add(volume.label.number)
        if len(numbers) == 1:
            [number] = numbers
            if volume.label and volume.label.number != number:
                volume.note = (
                    f"the label in {volume.folder} says {layout.name(volume.label.number)}, "
                    f"but the files of volume {number} lie there: `appliance media repair` puts it right"
                )
            volume.call(layout, number)
    return set().union(*here.values())


@contextmanager
def open_volume(folder: Path) -> Iterator[Volume]:
    """Open a volume's folder and read its label.

    Raises:
        Usage: ``folder`` is not a folder that can be read.
        FileUnexpected: the label is a link, a device … which no damage makes of a file.
    """
    with Tree(folder) as tree:
        volume = Volume(folder, tree, None)
        volume.unfinished = volume.has(UNFINISHED_PATH)
        path = UNFINISHED_PATH if volume.unfinished else LABEL_PATH
        try:
            volume.label = parse_label(tree.read(path, limit=MAX_BYTES))
        except FileMissing:
            volume.note = f"{folder} has no label: {_RESTORED}"
        except FileUnexpected:
            raise
        except BundleUntrusted as fault:
            volume.note = f"the label in {folder} is damaged: {fault.message}; {_RESTORED}"
        yield volume
