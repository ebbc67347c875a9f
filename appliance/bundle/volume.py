"""One open volume: its folder, and what its label says of it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle.media.label import LABEL_PATH, MAX_BYTES, parse_label
from appliance.bundle.tree import Tree
from appliance.errors import BundleUntrusted, FileMissing, FileUnexpected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.bundle.media.label import VolumeLabel
    from appliance.bundle.media.layout import Layout


@dataclass(eq=False)
class Volume:
    """A volume that is open.

    ``label`` is None if there is none to believe, and ``note`` says why; ``name`` is what messages call it:
    by its folder until its number is known.
    """

    folder: Path
    tree: Tree
    label: VolumeLabel | None
    note: str | None = None
    name: str = ""

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


@contextmanager
def open_volume(folder: Path) -> Iterator[Volume]:
    """Open a volume's folder and read its label.

    Raises:
        Usage: ``folder`` is not a folder that can be read.
        FileUnexpected: the label is a link, a device … which no damage makes of a file.
    """
    with Tree(folder) as tree:
        try:
            label, note = parse_label(tree.read(LABEL_PATH, limit=MAX_BYTES)), None
        except FileMissing:
            label, note = None, f"{folder} has no label"
        except FileUnexpected:
            raise
        except BundleUntrusted as fault:
            label, note = None, f"the label in {folder} is damaged: {fault.message}"
        yield Volume(folder, tree, label, note)
