"""What lies on a volume, by its names: before a byte is read, and whatever the state it is in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.bundle.fileset import A_FOLDER
from appliance.bundle.media.checked import CheckedVolume
from appliance.bundle.media.label import INCOMING_FOLDER, SPARE_FOLDER, UNFINISHED_PATH
from appliance.bundle.media.layout import bundle_order
from appliance.bundle.paths import TRUST_FOLDER, folders_of, lies_beside_list
from appliance.errors import BundleUntrusted, FileMissing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.bundle.fileset import Children
    from appliance.bundle.manifest import ListedFile
    from appliance.bundle.media.checked import DamagedFile
    from appliance.bundle.volume import Volume

_MAX_NAMES: Final = 1_000_000


@dataclass
class Seen:
    """A volume while it is looked at: what lies there of what may, and what is wrong."""

    volume: Volume
    present: Mapping[str, ListedFile]
    damaged: list[DamagedFile] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    def checked(self) -> CheckedVolume:
        """What is to be reported of it."""
        return CheckedVolume(
            name=self.volume.name,
            folder=self.volume.folder,
            number=self.volume.number,
            files=len(self.present),
            size=sum(file.size for file in self.present.values()),
            damaged=tuple(sorted(self.damaged, key=lambda damage: bundle_order(damage.path))),
            strange=tuple(sorted(self.strange)),
            unfinished=self.volume.unfinished,
        )


def names_on(volume: Volume, children: Children) -> tuple[set[str], list[str]]:
    """What lies on a volume of all that may, and what may not: other names, and empty folders ("a/")."""
    present: set[str] = set()
    strange: list[str] = []
    folders: set[str] = set()
    for folder, wanted in sorted(children.items()):
        try:
            names = volume.tree.names(folder, most=_MAX_NAMES)
        except FileMissing:
            continue
        except BundleUntrusted:
            strange.append(folder)
            continue
        folders.add(folder)
        for name in names:
            path = f"{folder}/{name}" if folder else name
            if name not in wanted:
                strange.append(path)
            elif wanted[name] != A_FOLDER:
                present.add(path)
    holding = {folder for path in present for folder in folders_of(path)}
    empty = folders - holding - {""}
    strange += [f"{folder}/" for folder in empty if folder.rpartition("/")[0] not in empty]
    if volume.unfinished:
        strange = [path for path in strange if path not in {INCOMING_FOLDER, UNFINISHED_PATH}]
    return present, strange


def is_statement(path: str) -> bool:
    """Whether a file is a signature or provenance by its name: no copy of it is known to be right."""
    folder, _, name = path.removeprefix(f"{SPARE_FOLDER}/").rpartition("/")
    return folder == TRUST_FOLDER and lies_beside_list(name)
