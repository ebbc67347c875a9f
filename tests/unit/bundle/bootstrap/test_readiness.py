"""bootstrap.sh: systems that are not ready hear what they lack."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.unit.bundle.bootstrap.desk import PROGRAM, Desk, change_wheel, refused

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("tool", ["sha256sum", "ssh-keygen", "python3"])
def test_a_missing_tool_is_named_with_its_package(tool: str, desk: Desk, medium: Path) -> None:
    (desk.path / tool).unlink()
    code, told = refused(desk, desk.set_up(medium))
    assert code == 5
    assert f"{tool} is not installed here" in told
    assert "wanted: package " in told


VERSIONS = {
    "3.10": "this system can be a node but not a controller",
    "3.9": "no wheels for the Python of this system",
    "3.15": "no wheels for the Python of this system",
    "3.1": "no wheels for the Python of this system",
}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_python_without_wheels_hears_which_there_are(version: str, desk: Desk, medium: Path) -> None:
    desk.instead("python3", f"echo {version}")
    code, told = refused(desk, desk.set_up(medium))
    assert code == 5
    assert VERSIONS[version] in told
    assert f"found: Python {version}\n" in told
    assert "wanted: Python 3.11 3.12 3.13 3.14\n" in told


def test_another_python_of_the_system_can_be_named(desk: Desk, medium: Path) -> None:
    desk.instead("python3", "echo 3.10")
    desk.instead("python3.11", f'exec "{sys.executable}" "$@"')
    change_wheel(medium)
    _, told = refused(desk, desk.set_up(medium, "--python", "python3.11"))
    assert f"{PROGRAM}: FAILED" in told, "it got as far as the files"


def test_a_python_that_does_not_run(desk: Desk, medium: Path) -> None:
    desk.instead("python3", "echo cannot execute >&2; exit 126")
    code, told = refused(desk, desk.set_up(medium))
    assert (code, "found: cannot execute" in told) == (5, True)


def test_a_python_without_venv_says_which_package_it_lacks(desk: Desk, medium: Path) -> None:
    """As with Debian's python3-minimal."""
    fail = "echo \"ModuleNotFoundError: No module named 'venv'\" >&2; exit 1"
    desk.instead("python3", f'case "$*" in *venv*) {fail};; esac\nexec "{sys.executable}" "$@"')
    code, told = refused(desk, desk.set_up(medium))
    assert code == 5
    assert "No module named 'venv'" in told
    assert "not python3-minimal" in told


def test_another_kind_of_computer(desk: Desk, medium: Path) -> None:
    desk.instead("uname", "echo aarch64")
    code, told = refused(desk, desk.set_up(medium))
    assert (code, "found: aarch64" in told) == (5, True)


def test_an_account_that_ssh_keygen_refuses(desk: Desk, medium: Path) -> None:
    desk.before = ("/usr/bin/unshare", "--map-user=54321", "--map-group=54321")
    code, told = refused(desk, desk.set_up(medium))
    assert code == 5
    assert "found: user 54321" in told


def test_a_folder_that_cannot_be_made(desk: Desk, medium: Path) -> None:
    desk.before = ("/usr/bin/unshare", "--map-user=1", "--map-group=1")
    desk.folder.chmod(0o555)
    code, told = refused(desk, desk.set_up(medium))
    desk.folder.chmod(0o755)
    assert code == 5
    assert "Permission denied" in told
    assert "--to ~/appliance" in told


def test_one_folder_above_is_made_too_and_removed_again(desk: Desk, medium: Path) -> None:
    inner = desk.folder / "made" / "toolkit"
    change_wheel(medium)
    code, told = refused(desk, desk.set_up(medium, "--to", str(inner)))
    assert code == 4, told
    assert not inner.parent.exists()
    code, told = refused(desk, desk.set_up(medium, "--to", str(inner / "deeper")))
    assert (code, "No such file or directory" in told) == (5, True)


DISKS = {
    "small": ("size=1m", "the disk of {} is too small"),
    "noexec": ("size=400m,noexec", "no program may run under {}"),
    "few files": ("size=400m,nr_inodes=40", "the wheels cannot be installed"),
    "fewer files": ("size=400m,nr_inodes=15", "a file of the toolkit cannot be copied"),
    "hardly any files": (
        "size=400m,nr_inodes=5",
        "the set-up failed, for the reason above; nothing was kept",
    ),
    "three files": ("size=400m,nr_inodes=4", "trust/SHA256SUMS cannot be copied"),
    "read only": ("size=400m,ro", "the folder cannot be made"),
}


@pytest.mark.parametrize("kind", DISKS)
def test_a_disk_that_is_not_fit_is_named_and_left_empty(kind: str, desk: Desk, medium: Path) -> None:
    options, message = DISKS[kind]
    disk = desk.folder / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o {options} none "{disk}" && "$@"; code=$?; ls -A "{disk}"; exit $code'
    desk.before = (
        *("/usr/bin/unshare", "--map-root-user", "--mount", "/bin/sh", "-c"),
        f"PATH=$PATH:/usr/bin:/bin; {mount}",
        "sh",
    )
    code, told = refused(desk, desk.set_up(medium, "--to", f"{disk}/new"))
    assert code == 5
    assert message.format(f"{disk}/new") in told
