"""Joining volumes into one plain folder: those that are there, then others, one after the other.

What is copied lies in the hidden folder ``.<name>.joining`` beside the target until everything is there;
only then it gets its name.  So a run that was cut off, for want of a volume or of power, is gone on with by
the same command.  The volumes are never written to.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from appliance.bundle.media.collecting import Ask, Collecting, Joined
from appliance.bundle.media.filesystem import writing_to
from appliance.bundle.media.fill import alone
from appliance.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.progress import Progress
    from appliance.trust.documents import SignedDocument


def join_volumes(
    folders: Sequence[Path],
    out: Path,
    *,
    progress: Progress,
    root: bytes | None = None,
    role: str = "release",
    revocations: Sequence[SignedDocument] = (),
    ask: Ask | None = None,
) -> Joined:
    """Copy the volumes of a bundle into the new folder ``out``.

    Args:
        folders: the volumes that are there, or the media they lie on; at least one.
        out: must not exist; the folder it lies in must.
        progress: told of every block and file.
        root: the bytes of a root by which the signatures are judged first; None to judge none.
        role: the role whose holders must have signed.
        revocations: brought by another way than the bundle; they count where there is a root.
        ask: has somebody insert the next volume; None if nobody is there.

    Raises:
        VolumeMissing: not all volumes were given, and nobody is there to insert them.
        DigestMismatch: files are damaged on every volume that has them; all others were copied.
        VolumesMixed, BundleUntrusted: other volumes than of one bundle, or not signed as the root wants.
        SpaceExhausted, MediumFailed, MediumUnsuitable: what the disk of ``out``, or a volume, said.
        InProgress: another run writes there.
        Usage: ``out`` exists already.
    """
    if out.exists() or out.is_symlink():
        raise Usage(f"{out} exists already", wanted="a new folder", hint="name another with --out")
    if not out.parent.is_dir():
        raise Usage(f"{out.parent} is not a folder", wanted="an existing folder to put the bundle into")
    partial = out.with_name(f".{out.name}.joining")
    with writing_to(out.parent, "the joined bundle"):
        partial.mkdir(exist_ok=True)
        with alone(partial), ExitStack() as stack:
            stack.callback(_remove_if_empty, partial)
            joining = Collecting(out, partial, root, role, progress, revocations)
            joining.take(folders)
            while not joining.complete:
                if ask is None:
                    raise joining.fault()
                joining.take_another(ask)
            return joining.finish()


def _remove_if_empty(folder: Path) -> None:
    """Leave nothing of a run that was refused; what can be gone on with stays."""
    with suppress(OSError):
        folder.rmdir()
