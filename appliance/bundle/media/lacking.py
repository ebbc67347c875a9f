"""What of a bundle that is being collected is still lacking, and what to say of that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.bundle.media.layout import agreed_layout
from appliance.bundle.plain_files import shown
from appliance.bundle.volume_rules import Unfinished, refuse_missing, unfinished_among_others
from appliance.counting import counted
from appliance.errors import BundleUntrusted, DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.bundle.media.entries import Entry
    from appliance.bundle.media.layout import Layout
    from appliance.bundle.volume import Volume

AGAIN: Final = "what was copied is kept: run the same command again to go on"


@dataclass
class StillLacking:
    """The files that are not there yet, and why the volumes seen so far did not help.

    ``files`` are those of a share by path, ``small`` root files; ``damaged`` of ``files`` those that lie on
    some volume and are right on none.  ``partial`` is the folder in which the others are.
    ``last_was_begun_only``: a volume given last was not written to its end.
    """

    partial: Path
    files: dict[str, Entry] = field(default_factory=dict)
    small: dict[str, None] = field(default_factory=dict)
    damaged: dict[str, DigestMismatch] = field(default_factory=dict)
    last_was_begun_only: bool = False
    _layout: Layout | None = None
    _given: set[int] = field(default_factory=set)
    _unfinished: dict[Path, Unfinished] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files) + len(self.small)

    def learn(self, volumes: Sequence[Volume]) -> None:
        """Call volumes that were given what they are, and remember how far they were written."""
        labels = [volume.label for volume in volumes if volume.label]
        self._layout = self._layout or agreed_layout(labels)
        self._given |= {label.number for label in labels}
        self.last_was_begun_only = any(volume.unfinished for volume in volumes)
        for volume in volumes:
            volume.call(self._layout, volume.label.number if volume.label else None)
            self._unfinished.pop(volume.folder, None)
            if volume.unfinished:
                self._unfinished[volume.folder] = Unfinished(volume.name, volume.number)

    def wanted(self) -> str:
        """What is to be inserted, for people."""
        missing = self._nowhere() or list(self.files)
        if not missing:
            return f"a volume with a sound copy of {shown(list(self.small))}"
        if self._layout:
            return self._layout.describe(self._layout.volumes_of(missing))
        return f"{counted(len(missing), 'file')}, the first is {missing[0]}"

    @property
    def is_somebody_s_fault(self) -> bool:
        """Whether a volume that was given should have held what is lacking."""
        return bool(self.damaged or self._begun_only())

    def fault(self) -> BundleUntrusted:
        """Why the bundle is not complete."""
        missing = self._nowhere()
        if begun := self._begun_only():
            return unfinished_among_others(begun, self._layout, missing, self._given, again=AGAIN)
        try:
            refuse_missing(self._layout, missing, self._given)
        except BundleUntrusted as fault:
            fault.hint = f"name the missing volumes too; {AGAIN}"
            return fault
        if self.damaged:
            return DigestMismatch(
                f"damaged: {counted(len(self.damaged), 'file')}; everything else was copied",
                found="; ".join(fault.message for fault in list(self.damaged.values())[:10]),
                hint=f"name another copy of that volume, or mend what is there: `appliance media repair "
                f"{self.partial}`; then run the same command again",
            )
        return DigestMismatch(
            "root files are damaged in every copy",
            found=shown(list(self.small)),
            hint=f"name another volume of this bundle; {AGAIN}",
        )

    def _nowhere(self) -> list[str]:
        """The files that lie on no volume seen so far."""
        return [path for path in self.files if path not in self.damaged]

    def _begun_only(self) -> Sequence[Unfinished]:
        """Volumes not written to their end, as far as files are lacking that may belong there."""
        missing = self._nowhere()
        if not missing:
            return ()
        wanted = self._layout.volumes_of(missing) if self._layout else {}
        return [each for each in self._unfinished.values() if each.number is None or each.number in wanted]
