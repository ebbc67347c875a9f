"""Whether a patch fits a base, and whether what comes of it is what the patch says."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from appliance.bundle.listing import MAX_BYTES as MAX_LIST
from appliance.bundle.listing import parse_listing
from appliance.bundle.manifest import Base, parse_manifest
from appliance.bundle.manifest_reader import MAX_BYTES
from appliance.bundle.patch.holdings import OUTSIDE, HeldFile
from appliance.bundle.paths import (
    LIST_PATH,
    MANIFEST_PATH,
    TRUST_FOLDER,
    lies_beside_list,
)
from appliance.bundle.wording import some
from appliance.errors import PatchUnfit, RecipeInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.bundle.manifest import Manifest
    from appliance.bundle.patch.applying import Checked
    from appliance.bundle.patch.holdings import OpenBundle


@dataclass(frozen=True)
class Target:
    """The bundle that is made: digest, manifest, list, and every listed file, whole, but the manifest."""

    digest: str
    manifest: Manifest
    listing: Mapping[str, str]
    files: Mapping[str, HeldFile]


def require_base(base: OpenBundle, patch: Manifest) -> None:
    """Refuse a base that the patch does not start from, and say what is the matter.

    Raises:
        PatchUnfit: it is another.
    """
    manifest = base.manifest
    require_start(Base(base.digest, manifest.version, manifest.sequence), manifest.product, patch, where="")


def require_start(base: Base, product: str, patch: Manifest, *, where: str) -> None:
    """Likewise, of what a node says that it has.

    Args:
        base: what is there.
        product: what it is a version of.
        patch: the manifest of the patch.
        where: the node, for the message; empty where the base is at hand.

    Raises:
        PatchUnfit: it is another.
    """
    (wanted,) = patch.requires
    if base.bundle == wanted.bundle:
        return
    found = f"{product} {base.version}, sequence {base.sequence}, {base.bundle}"
    if base.bundle == patch.makes:
        message, hint = "the patch was applied already", "nothing is left to be done"
    elif product != patch.product:
        message, hint = "the patch is for another product", "name the patch that belongs to this bundle"
    elif base.sequence >= patch.sequence:
        message, hint = "the patch is older than the base", "a way back needs a permit, not an old patch"
    elif base.sequence < wanted.sequence:
        message, hint = "a patch before this one is missing", "apply the patches in their order"
    else:
        message, hint = "the patch is for another base", "build a patch against what is there"
    raise PatchUnfit(
        f"{where}: {message}" if where else message,
        found=found,
        wanted=f"{patch.product} {wanted.version}, sequence {wanted.sequence}, {wanted.bundle}",
        hint=hint,
    )


def require_sound(checked: Checked, carried: Mapping[str, HeldFile]) -> None:
    """Refuse a recipe that could make nothing of this patch, before anything is made.

    Args:
        checked: what the recipe asks for.
        carried: files of the patch, whole, by path.

    Raises:
        RecipeInvalid: it takes what the patch does not carry, or makes no list and manifest that could be
            read.
    """
    for path, most in ((LIST_PATH, MAX_LIST), (MANIFEST_PATH, MAX_BYTES)):
        if path not in checked.made or path in checked.taken:
            _refuse(
                f"it does not make {path}", found="no such file", wanted="a new list and a new manifest"
            )
        if (size := checked.made[path].size) > most:
            _refuse(f"{path} is too large", found=f"{size:,} bytes", wanted=f"at most {most:,} bytes")
    for path in sorted(checked.taken):
        made, file = checked.made[path], carried.get(path)
        if file is None or (file.sha256, file.size) != (made.sha256, made.size):
            _refuse(
                f"it takes {path}, which the patch does not carry so",
                found=f"sha256 {file.sha256}, {file.size:,} bytes" if file else "no such file",
                wanted=f"sha256 {made.sha256}, {made.size:,} bytes",
            )


def read_target(folder: Path, checked: Checked, patch: Manifest) -> Target:
    """What is to be made, by its list and its manifest, which the recipe has made in ``folder``.

    Args:
        folder: where they lie.
        checked: what the recipe asks for, sound (``require_sound``).
        patch: the manifest of the patch.

    Raises:
        RecipeInvalid: the recipe makes another bundle than the patch says, or files that it does not list.
        BundleMalformed: list or manifest break the format.
    """
    data = (folder / LIST_PATH).read_bytes()
    if (digest := hashlib.sha256(data).hexdigest()) != patch.makes:
        _refuse("it makes another bundle than was signed", found=digest, wanted=str(patch.makes))
    listing = parse_listing(data)
    spelled = (folder / MANIFEST_PATH).read_bytes()
    if (found := hashlib.sha256(spelled).hexdigest()) != listing.get(MANIFEST_PATH):
        _refuse("list and manifest do not belong together", found=found, wanted=str(listing[MANIFEST_PATH]))
    manifest = parse_manifest(spelled)
    if manifest.makes is not None or (manifest.product, manifest.version, manifest.sequence) != (
        patch.product,
        patch.version,
        patch.sequence,
    ):
        _refuse(
            "the bundle that it makes says otherwise of itself than the patch",
            found=f"{manifest.product} {manifest.version}, sequence {manifest.sequence}",
            wanted=f"{patch.product} {patch.version}, sequence {patch.sequence}",
        )
    files = _whole(manifest)
    _require_listed(checked, files)
    return Target(digest, manifest, listing, files)


def kept_files(
    target: Target, checked: Checked, by_digest: Mapping[str, HeldFile]
) -> list[tuple[HeldFile, HeldFile]]:
    """Files that are the base's: what they are, and what they are there.

    Args:
        target: the bundle that is made.
        checked: what the recipe asks for.
        by_digest: files of the base by SHA-256 (hex).

    Raises:
        PatchUnfit: neither the patch nor the base has some; nothing of the payload was written yet.
        RecipeInvalid: the bundle lists one of the base's files with another size.
    """
    rest = [file for path, file in target.files.items() if path not in checked.made]
    missing = [file.path for file in rest if file.sha256 not in by_digest]
    if missing:
        raise PatchUnfit(
            f"neither patch nor base has {len(missing)} of the bundle's files",
            found=f"no {some(missing)}",
            wanted="the base that the patch was built against, whole",
            hint="build the patch against what is there",
        )
    for file in rest:
        if (size := by_digest[file.sha256].size) != file.size:
            _refuse(
                f"the bundle lists {file.path} with another size than the base's file of this digest has",
                found=f"{file.size:,} bytes",
                wanted=f"{size:,} bytes",
            )
    return [(file, by_digest[file.sha256]) for file in rest]


def _whole(manifest: Manifest) -> dict[str, HeldFile]:
    """The listed files but the manifest, by path."""
    files = {
        path: HeldFile(path, file.sha256, file.size, OUTSIDE, path, ((path, file.size),))
        for path, file in manifest.files.items()
    }
    for each in manifest.payload():
        parts = tuple((path, part.size) for path, part in each.parts())
        files[each.path] = HeldFile(each.path, each.sha256, each.size, OUTSIDE, each.name, parts)
    return files


def _require_listed(checked: Checked, files: Mapping[str, HeldFile]) -> None:
    """Refuse a recipe that makes other files than the bundle has."""
    for path, made in checked.made.items():
        known = files.get(path)
        if known and (known.sha256, known.size) != (made.sha256, made.size):
            _refuse(
                f"it makes another {path} than the bundle lists", found=made.sha256, wanted=known.sha256
            )
        if not known and path != MANIFEST_PATH and not _may_lie_beside(path):
            _refuse(f"it makes {path}, which the bundle does not list", found=path, wanted="listed files")


def _may_lie_beside(path: str) -> bool:
    """Whether a bundle may have this file without listing it: a list, a signature, provenance."""
    folder, _, name = path.rpartition("/")
    is_list = name in {"SHA256SUMS", "SHA384SUMS"}
    return folder == TRUST_FOLDER and (is_list or lies_beside_list(name))


def _refuse(message: str, *, found: str, wanted: str) -> NoReturn:
    raise RecipeInvalid(
        f"the recipe does not do what the patch says: {message}",
        found=found,
        wanted=wanted,
        hint="do not use this patch; ask who signed it",
    )
