"""Archives: a bundle is none, and nothing that verifies one unpacks any.

So an archive in the place of a bundle, or of a file of one, is refused for what it is, and one among the
payload is only bytes, however far it would blow up.  Parity, which can be an archive's like: test_repair.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import struct
import tarfile
import zipfile
from typing import TYPE_CHECKING, Final

import pytest

from appliance.errors import ApplianceError, BundleUntrusted
from appliance.progress import Silent
from appliance.trust.canonical import canonical_bytes
from appliance.trust.root import root_bytes
from tests.corpus.groups import cases
from tests.independent.agreement import verify_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

pytestmark = pytest.mark.group(6)

ZEROS: Final = bytes(64 << 20)


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **pax: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.pax_headers = kind, link, dict(pax)
    return made


def zip_of(*names: str, data: bytes = b"x") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _overlapping() -> bytes:
    """Two entries of the directory name the same bytes."""
    whole = zip_of("one")
    place = whole.index(b"PK\1\2")
    end = whole.index(b"PK\5\6")
    entry, tail = whole[place:end], whole[end:]
    size = struct.pack("<HHI", 2, 2, 2 * len(entry))
    return whole[:place] + entry + entry.replace(b"one", b"two") + tail[:8] + size + tail[16:]


def archives() -> dict[str, bytes]:
    """Archives made to do harm to whoever unpacks them."""
    return {
        "tar, parent": tar_of((member("../escaped"), b"x")),
        "tar, absolute": tar_of((member("/tmp/escaped"), b"x")),
        "tar, link and through it": tar_of(
            (member("a", tarfile.SYMTYPE, "/"), b""), (member("a/escaped"), b"x")
        ),
        "tar, hard link outside": tar_of((member("a", tarfile.LNKTYPE, "../../etc/passwd"), b"")),
        "tar, a device": tar_of((member("a", tarfile.CHRTYPE), b"")),
        "tar, PAX says another path": tar_of((member("a", path="../escaped"), b"x")),
        "tar, PAX says another size": tar_of((member("a", size="9" * 18), b"x")),
        "zip, parent": zip_of("../escaped"),
        "zip, absolute": zip_of("/tmp/escaped"),
        "zip, a name twice": zip_of("a", "A", "a/b"),
        "zip, a bomb": zip_of("a", data=ZEROS),
        "zip, overlapping": _overlapping(),
        "zip in a zip": zip_of("a.zip", data=zip_of("a", data=ZEROS)),
        "gzip, a bomb": gzip.compress(ZEROS),
        "gzip, one after the other": gzip.compress(b"a") + gzip.compress(b"b"),
        "xz, a bomb": lzma.compress(ZEROS, preset=0),
    }


ARCHIVES: Final = archives()


@pytest.mark.parametrize("data", cases(6, ARCHIVES))
def test_one_in_the_place_of_a_bundle(data: bytes, tmp_path: Path, two_of_three: Root) -> None:
    (tmp_path / "bundle").write_bytes(data)
    with pytest.raises(ApplianceError) as caught:
        verify_bundle(tmp_path / "bundle", root_bytes(two_of_three), progress=Silent())
    assert caught.value.exit_code in {2, 4}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    "name", ["manifest.json", "trust/SHA256SUMS", "trust/SHA256SUMS.alice.sig", "blocks.bin"]
)
@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
def test_a_file_of_the_format_packed(
    name: str, pack: Callable[[bytes], bytes], bundle: Path, two_of_three: Root
) -> None:
    (bundle / name).write_bytes(pack((bundle / name).read_bytes()))
    with pytest.raises(BundleUntrusted):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


@pytest.mark.parametrize("name", ["manifest.json", "blocks.bin"])
def test_a_file_of_the_format_packed_by_holders_who_were_deceived(
    name: str, bundle: Path, two_of_three: Root, sign_files: Callable[[Path], None]
) -> None:
    data = gzip.compress((bundle / name).read_bytes())
    (bundle / name).write_bytes(data)
    if name != "manifest.json":
        values = json.loads((bundle / "manifest.json").read_bytes())
        entry = next(file for file in values["files"] if file["path"] == name)
        entry.update(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        (bundle / "manifest.json").write_bytes(canonical_bytes(values))
    sign_files(bundle)
    with pytest.raises(BundleUntrusted):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


@pytest.mark.control
def test_among_the_payload_they_are_only_bytes(maker: BundleMaker, two_of_three: Root) -> None:
    """Each is verified as it lies there, within the same bounds, and nothing comes out of it."""
    files = {f"a{number}": data for number, data in enumerate(ARCHIVES.values())}
    contents = {
        "engine": ("files", files),
        "model": ("tiny-gguf", {"tiny.gguf": b"GGUF"}),
    }
    bundle = maker.sign(maker.write("carried", two_of_three, maker.lock(contents)), "alice", "bob")
    before = sorted(maker.folder.rglob("*"))
    verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    assert sorted(maker.folder.rglob("*")) == before
