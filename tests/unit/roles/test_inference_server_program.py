"""The module ``released_program``: archives as makers pack them, and archives that mean harm."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Member = tuple[str, str, str]  # name, kind, and the content or the link's target

RELEASE: list[Member] = [
    ("./", "folder", ""),
    ("./bin/", "folder", ""),
    ("./bin/ollama", "program", "#!/bin/sh\n"),
    ("./lib/ollama/libggml.so.1", "file", "library"),
    ("./lib/ollama/libggml.so", "link", "libggml.so.1"),
    ("./lib/ollama/cuda_v13/libx.so", "link", "../libggml.so.1"),
    ("./lib/ollama/again", "hard", "./lib/ollama/libggml.so.1"),
]
KINDS = {
    "link": tarfile.SYMTYPE,
    "hard": tarfile.LNKTYPE,
    "folder": tarfile.DIRTYPE,
    "device": tarfile.CHRTYPE,
    "pipe": tarfile.FIFOTYPE,
}


@pytest.fixture(scope="module")
def program(role_module: Callable[[str], Any]) -> Any:
    return role_module("inference_server/library/released_program.py")


def pack(path: Path, members: list[Member], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = KINDS.get(kind, tarfile.REGTYPE)
            info.mode, info.uid = (0o6777 if kind == "program" else 0o666), 12345
            if kind in {"link", "hard"}:
                info.linkname = content
            data = content.encode() if kind in {"program", "file"} else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def options(folder: Path, packed: Path, **changed: Any) -> dict[str, Any]:
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    values = {"path": str(folder / "release/ollama"), "archive": str(packed), "sha256": digest}
    return {**values, "needs": ["bin/ollama"], "programs": []} | changed


def test_a_release_is_unpacked_once_and_again_where_it_is_damaged(program: Any, tmp_path: Path) -> None:
    given = options(tmp_path, pack(tmp_path / "ollama-linux-amd64.tgz", RELEASE))
    folder = tmp_path / "release/ollama"
    assert program.ensure(given, check_mode=True)["reasons"] == ["absent"]
    assert not folder.exists()
    assert program.ensure(given, check_mode=False)["reasons"] == ["absent"]
    binary = folder / "bin/ollama"
    assert (binary.read_text(), binary.stat().st_mode & 0o7777) == ("#!/bin/sh\n", 0o755)
    assert binary.stat().st_uid == folder.stat().st_uid, "nobody that the archive names owns it"
    library = folder / "lib/ollama/libggml.so.1"
    assert library.stat().st_mode & 0o7777 == 0o644
    for name in ("libggml.so", "cuda_v13/libx.so", "again"):
        assert (folder / "lib/ollama" / name).read_text() == "library"
    assert not program.ensure(given, check_mode=False)["changed"]

    library.unlink()
    library.write_text("lib")
    found = program.ensure(given, check_mode=False)["reasons"]
    assert found == ["damaged: lib/ollama/libggml.so.1"]
    assert library.read_text() == "library"
    (folder / "appliance-program.json").unlink()
    assert program.ensure(given, check_mode=True)["reasons"] == ["incomplete"]


def test_another_archive_takes_its_place_and_leaves_nothing_of_it(program: Any, tmp_path: Path) -> None:
    program.ensure(options(tmp_path, pack(tmp_path / "a.tgz", RELEASE)), check_mode=False)
    other = options(tmp_path, pack(tmp_path / "b.tgz", [("bin/ollama", "program", "new")]))
    (reason,) = program.ensure(other, check_mode=False)["reasons"]
    assert reason.startswith("archive was ")
    folder = tmp_path / "release/ollama"
    assert sorted(path.name for path in folder.iterdir()) == ["appliance-program.json", "bin"]
    assert json.loads((folder / "appliance-program.json").read_text())["files"] == {"bin/ollama": 3}


def test_what_we_run_is_put_in_place_with_it(program: Any, tmp_path: Path) -> None:
    ours = {"path": str(tmp_path / "release/serve.py"), "text": "print()\n"}
    given = options(tmp_path, pack(tmp_path / "a.tgz", RELEASE), programs=[ours])
    assert program.ensure(given, check_mode=False)["changed"]
    assert (tmp_path / "release/serve.py").read_text() == "print()\n"
    assert not program.ensure(given, check_mode=False)["changed"]


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (("../out", "file", "x"), "leads out of its folder: ../out"),
        (("bin/../../out", "file", "x"), "leads out of its folder"),
        (("/etc/out", "file", "x"), "leads out of its folder: /etc/out"),
        (("link", "link", "/etc"), "leads out of its folder: a link to /etc"),
        (("lib/link", "link", "../.."), "leads out of its folder: a link: lib/link"),
        (("lib/hard", "hard", "../../etc/passwd"), "leads out of its folder"),
        (("lib/hard", "hard", "/etc/passwd"), "leads out of its folder: a link to /etc/passwd"),
        (("lib/hard", "hard", "lib/later"), "links to what is no file of it: lib/later"),
        (("bin/ollama", "file", "other"), "has a file twice: bin/ollama"),
        (("bin/ollama/x", "file", "x"), "writes through what is no folder: bin/ollama/x"),
        (("null", "device", ""), "has what is no file: null"),
        (("pipe", "pipe", ""), "has what is no file: pipe"),
        ((".", "file", "x"), "is no folder's"),
    ],
)
def test_what_means_harm_is_refused_and_leaves_what_was_there(
    program: Any, tmp_path: Path, member: Member, said: str
) -> None:
    program.ensure(options(tmp_path, pack(tmp_path / "good.tgz", RELEASE)), check_mode=False)
    bad = pack(tmp_path / "bad.tgz", [("bin/ollama", "program", "bad"), member])
    with pytest.raises(program.CannotUnpack) as caught:
        program.ensure(options(tmp_path, bad), check_mode=False)
    assert said in f"{caught.value.args[0]}: {caught.value.args[1]}"
    assert (tmp_path / "release/ollama/bin/ollama").read_text() == "#!/bin/sh\n"
    assert [path.name for path in (tmp_path / "release").iterdir()] == ["ollama"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tgz", "good.tgz", "release"]


@pytest.mark.parametrize("target", ["lib", "elsewhere"])
def test_nothing_is_written_through_a_link(program: Any, tmp_path: Path, target: str) -> None:
    """Neither where it leads within the folder, nor where a later member would make it lead out."""
    bad = pack(tmp_path / "bad.tgz", [("way", "link", target), ("way/x", "file", "x")])
    with pytest.raises(program.CannotUnpack, match="writes through what is no folder"):
        program.ensure(options(tmp_path, bad, needs=[]), check_mode=False)


def test_links_that_lead_out_together_are_refused(program: Any, tmp_path: Path) -> None:
    """Each alone stays within; the second goes up from where the first ends."""
    bad = pack(
        tmp_path / "bad.tgz",
        [("a/b/c", "folder", ""), ("way", "link", "a"), ("a/b/up", "link", "../../way/../../out")],
    )
    with pytest.raises(program.CannotUnpack, match="leads out of its folder"):
        program.ensure(options(tmp_path, bad, needs=[]), check_mode=False)


def test_too_much_is_refused(program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "a.tgz", RELEASE)
    for name, most in (("MOST_FILES", 6), ("MOST_BYTES", 16)):
        with monkeypatch.context() as patch:
            patch.setattr(program, name, most)
            with pytest.raises(program.CannotUnpack, match="has too much"):
                program.ensure(options(tmp_path, archive), check_mode=False)
    program.ensure(options(tmp_path, archive), check_mode=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[: len(data) // 2], "the archive is damaged"),
        (lambda data: data[:-8] + b"\0" * 8, "the archive is damaged"),
        (lambda _data: b"no archive", "the archive is damaged"),
    ],
)
def test_a_damaged_archive_is_refused(
    program: Any, tmp_path: Path, change: Callable[[bytes], bytes], said: str
) -> None:
    archive = pack(tmp_path / "a.tgz", RELEASE)
    archive.write_bytes(change(archive.read_bytes()))
    with pytest.raises(program.CannotUnpack, match=said):
        program.ensure(options(tmp_path, archive), check_mode=False)
    assert not (tmp_path / "release/ollama").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sha256": "0" * 64}, "is not as it was signed"),
        ({"needs": ["bin/other"]}, "lacks a program"),
        ({"needs": ["lib/ollama/libggml.so.1"]}, "lacks a program"),
        ({"archive": "/nonexistent/ollama-linux-amd64.tgz"}, "there is no archive"),
    ],
)
def test_what_cannot_be_used_is_named(
    program: Any, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    archive = pack(tmp_path / "a.tgz", RELEASE)
    with pytest.raises(program.CannotUnpack, match=said):
        program.ensure(options(tmp_path, archive, **changed), check_mode=False)
    assert not (tmp_path / "release/ollama").exists()


def test_another_kind_of_archive_is_refused(program: Any, tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar.xz", RELEASE, "w:xz")
    with pytest.raises(program.CannotUnpack, match="no known kind"):
        program.ensure(options(tmp_path, archive), check_mode=False)


def test_zstandard_needs_the_nodes_own_program(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pack(tmp_path / "a.tar", RELEASE, "w")
    monkeypatch.setattr(program.shutil, "which", lambda _name: None)
    archive = plain.rename(tmp_path / "ollama-linux-amd64.tar.zst")
    with pytest.raises(program.CannotUnpack) as caught:
        program.ensure(options(tmp_path, archive), check_mode=False)
    assert "the package zstd" in caught.value.args[2]


def test_zstandard_is_unpacked_and_its_damage_noticed(program: Any, tmp_path: Path) -> None:
    assert shutil.which("zstd"), "see system-packages.txt"
    plain = pack(tmp_path / "ollama-linux-amd64.tar", RELEASE, "w")
    subprocess.run(["zstd", "-q", str(plain)], check=True)
    archive = tmp_path / "ollama-linux-amd64.tar.zst"
    program.ensure(options(tmp_path, archive), check_mode=False)
    assert (tmp_path / "release/ollama/lib/ollama/libggml.so").read_text() == "library"
    archive.write_bytes(archive.read_bytes()[:-4] + b"\0" * 4)  # the checksum of the whole
    with pytest.raises(program.CannotUnpack, match="the archive is damaged"):
        program.ensure(options(tmp_path, archive), check_mode=False)
