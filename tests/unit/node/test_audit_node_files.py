"""What an audit's program tells of files: kind, mode, owner, digest, package; and it leaves no trace."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.node.remote import file_state

if TYPE_CHECKING:
    from collections.abc import Callable

CONTENT = b"#!/bin/sh\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with one of everything that may lie in a tree."""
    tree = tmp_path / "usr"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/tool").write_bytes(CONTENT)
    (tree / "bin/tool").chmod(0o755)
    (tree / "bin/alias").symlink_to("tool")
    os.mkfifo(tree / "pipe", 0o600)
    (tree / "apart").mkdir()
    (tree / "apart/kept").write_bytes(b"")
    return tree


@pytest.fixture
def look(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, str]]:
    """The state of that folder, by path within it."""
    owners = {str(tree / "bin"): "base-files", str(tree / "bin/tool"): "tools:amd64"}
    monkeypatch.setattr(file_state, "package_files", lambda: owners)

    def looked() -> dict[str, str]:
        found = file_state.file_state([str(tree)], [str(tree / "apart")], [])
        return {os.path.relpath(path, tree): how for path, how in found.items()}

    return looked


def own() -> str:
    return f"owner {os.geteuid()}:{os.getegid()}"


def test_everything_in_a_tree_is_told_but_what_lies_apart(look: Callable[[], dict[str, str]]) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert look() == {
        ".": f"folder, mode 0755, {own()}",
        "bin": f"folder, mode 0755, {own()}",  # of many packages
        "bin/tool": f"file, of tools:amd64, mode 0755, {own()}, SHA-256 {digest}",
        "bin/alias": "link, to tool",
        "pipe": f"pipe, mode 0600, {own()}",
    }


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda tree: (tree / "bin/tool").write_bytes(b"#!/bin/evil\n"), "bin/tool"),
        (lambda tree: (tree / "bin/tool").chmod(0o4755), "bin/tool"),
        (lambda tree: (tree / "bin").chmod(0o1777), "bin"),
        (lambda tree: (tree / "bin/alias").replace(tree / "pipe"), "pipe"),
        pytest.param(
            lambda tree: os.setxattr(tree / "bin/tool", "security.capability", CAPABILITY),
            "bin/tool",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives capabilities"),
        ),
    ],
)
def test_whatever_matters_changes_the_description(
    look: Callable[[], dict[str, str]], tree: Path, change: Callable[[Path], object], path: str
) -> None:
    before = look()
    change(tree)
    assert look()[path] != before[path]


#: cap_net_raw as vfs_cap_data has it, version 2, effective.
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


def test_same_size_and_times_do_not_hide_other_bytes(
    look: Callable[[], dict[str, str]], tree: Path
) -> None:
    before, tool = look(), tree / "bin/tool"
    status = tool.stat()
    tool.write_bytes(CONTENT[::-1])
    os.utime(tool, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert look()["bin/tool"] != before["bin/tool"]


def test_reading_leaves_no_time_behind(look: Callable[[], dict[str, str]], tree: Path) -> None:
    """The kernel notes a reading where the last one is older than the last change (mount(8), relatime)."""
    tool, witness = tree / "bin/tool", tree / "bin/witness"
    witness.write_bytes(CONTENT)
    for path in (tool, witness):
        os.utime(path, ns=(1, 2))
    witness.read_bytes()
    if witness.stat().st_atime_ns == 1:
        pytest.skip("this file system notes no readings")
    look()
    assert tool.stat().st_atime_ns == 1


def test_a_link_at_the_top_is_told_and_not_followed(tmp_path: Path, tree: Path) -> None:
    link = tmp_path / "lib"
    link.symlink_to(tree)
    assert file_state.file_state([str(link)], [], []) == {str(link): f"link, to {tree}"}


def test_what_is_gone_meanwhile_is_left_out(tmp_path: Path) -> None:
    assert file_state.described(str(tmp_path / "gone")) == ""
    assert file_state.file_state([str(tmp_path / "gone")], [], []) == {}


def test_names_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\n")).write_bytes(b"")
    assert any("\udcff" in path for path in file_state.file_state([str(tmp_path)], [], []))


def test_homes_are_asked_for_what_logins_run(tmp_path: Path) -> None:
    home = tmp_path / "alice"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/authorized_keys").write_text("ssh-ed25519 AAAA alice\n")
    (home / "letter").write_text("private\n")
    passwd = tmp_path / "passwd"
    passwd.write_text(
        f"alice:x:1:1::{home}:/bin/sh\nbin:x:2:2::/:/bin/sh\nbroken\nnobody:x:3:3::/gone:/bin/sh\n"
    )
    found = list(file_state.login_paths([".ssh/authorized_keys", ".bashrc"], str(passwd)))
    assert found == [str(home / ".ssh/authorized_keys")]


def test_packages_are_known_by_dpkgs_lists(tmp_path: Path) -> None:
    (tmp_path / "tools:amd64.list").write_text("/.\n/opt/tools/run\n/bin/tool\n")
    (tmp_path / "tools:amd64.postinst").write_text("")
    owners = file_state.package_files(str(tmp_path))
    assert owners["/opt/tools/run"] == "tools:amd64"
    assert owners["/usr/bin/tool" if Path("/bin").is_symlink() else "/bin/tool"] == "tools:amd64"
    assert owners[str(tmp_path / "tools:amd64.postinst")] == "tools:amd64"
