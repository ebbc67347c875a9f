"""Packages go back by the real dpkg, below a root of their own: files that moved, conflicts, cuts."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.node.remote.late_packages import DpkgError, Packages, run

if TYPE_CHECKING:
    from pathlib import Path


class System(Packages):
    """A root folder with packages of its own, and a copy of a bundle."""

    def __init__(self, folder: Path) -> None:
        self.place, self.copy = folder / "root", folder / "copy"
        super().__init__(str(self.place), self.below)
        for name in ("info", "updates", "triggers"):
            (self.place / "var/lib/dpkg" / name).mkdir(parents=True)
        (self.place / "var/lib/dpkg/status").touch()

    def below(self, command: list[str]) -> tuple[int, str]:
        """As on a node, but below the root."""
        if command[0] in {"dpkg", "dpkg-query"}:
            here = ["--force-script-chrootless"] if command[0] == "dpkg" else []
            command = [command[0], f"--root={self.place}", *here, *command[1:]]
        return run(command)

    def deb(
        self, name: str, version: str, *files: str, arch: str = "all", preinst: str = "", **fields: str
    ) -> Path:
        """Build a package into the copy."""
        tree = self.copy.parent / "trees" / f"{name}-{version}-{arch}"
        (tree / "DEBIAN").mkdir(parents=True)
        for path in files:
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(f"{name} {version} {arch}\n")
        if preinst:
            (tree / "DEBIAN/preinst").write_text(preinst)
            (tree / "DEBIAN/preinst").chmod(0o755)
        more = {key.replace("_", "-"): value for key, value in fields.items()}
        control = {"Package": name, "Version": version, "Architecture": arch, "Maintainer": "x <x@x.x>"}
        lines = {**control, "Description": "x", **more}
        (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
        file = self.copy / "payload/system" / f"{name}_{version.replace(':', '%3a')}_{arch}.deb"
        file.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["dpkg-deb", "-Znone", "--build", str(tree), str(file)], check=True, capture_output=True
        )
        return file

    def install(self, *files: Path) -> None:
        status, told = self.below(["dpkg", "--install", *map(str, files)])
        assert status == 0, told

    def goes_back(self, before: dict[str, str]) -> list[str]:
        return self.go_back(before, str(self.copy))


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def test_a_file_that_moved_to_a_new_package_moves_back(system: System) -> None:
    system.install(system.deb("driver", "1", "usr/lib/one"))
    before = system.present()
    newer = system.deb("driver", "2", "usr/lib/two")
    system.install(newer, system.deb("driver-more", "2", "usr/lib/one", Replaces="driver (<< 2)"))
    assert system.goes_back(before) == []
    assert (system.place / "usr/lib/one").read_text() == "driver 1 all\n"


def test_what_conflicts_with_a_new_package_is_back_once_that_is_gone(system: System) -> None:
    system.install(system.deb("driver", "1:1", Conflicts="driver-open"))
    before = system.present()
    system.install(system.deb("driver", "1:2"), system.deb("driver-open", "2"))
    assert system.goes_back(before) == []
    assert system.present() == {"driver": "1:1"}


def test_a_file_that_moved_between_two_packages_moves_back(system: System) -> None:
    system.install(system.deb("a", "1", "usr/one"), system.deb("b", "1", "usr/two"))
    before = system.present()
    system.install(
        system.deb("a", "2", "usr/three"), system.deb("b", "2", "usr/one", "usr/two", Replaces="a (<< 2)")
    )
    assert system.goes_back(before) == []
    assert (system.place / "usr/one").read_text() == "a 1 all\n"


def test_each_architecture_goes_back_by_its_own_file(system: System) -> None:
    system.below(["dpkg", "--add-architecture", "i386"])
    system.below(["dpkg", "--add-architecture", "amd64"])
    both = ("amd64", "i386")
    system.install(*(system.deb("libs", "1", f"usr/lib/{a}", arch=a, Multi_Arch="same") for a in both))
    before = system.present()
    assert len(before) == 2
    system.install(*(system.deb("libs", "2", f"usr/lib/{a}", arch=a, Multi_Arch="same") for a in both))
    assert system.goes_back(before) == []
    assert system.present() == before


def test_holds_are_no_hindrance(system: System) -> None:
    system.install(system.deb("driver", "1"))
    before = system.present()
    system.install(system.deb("driver", "2"), system.deb("new", "1"))
    subprocess.run(
        ["dpkg", f"--root={system.place}", "--set-selections"], input=b"driver hold\nnew hold\n", check=True
    )
    assert system.goes_back(before) == []
    assert system.present() == before


def test_what_was_cut_off_before_is_whole_afterwards_and_no_complaint(system: System) -> None:
    """A package was unpacked and not configured when the switch began: nobody has to bring that back."""
    file = system.deb("other", "1")
    system.below(["dpkg", "--unpack", str(file)])
    system.install(system.deb("driver", "1"))
    before = system.present()
    assert before == {"driver": "1", "other": "1 U"}
    system.below(["dpkg", "--configure", "--pending"])
    file.unlink()
    assert system.goes_back(before) == []


def test_what_does_not_go_back_is_said_with_its_reason(system: System) -> None:
    system.install(system.deb("driver", "1", "usr/lib/one"), system.deb("lone", "1"))
    before = system.present()
    for name in ("driver", "lone"):
        system.install(system.deb(name, "2"))
    (system.copy / "payload/system/lone_1_all.deb").unlink()
    system.install(system.deb("other", "1", "usr/lib/one"))
    before["other"] = "1"
    assert system.goes_back(before) == [
        f"{name} is not at 1 again (trying to overwrite '/usr/lib/one', which is also in package other 1)"
        for name in ("driver", "lone")
    ]


def test_a_dpkg_that_does_not_say_which_packages_there_are_is_no_node_without_any(system: System) -> None:
    (system.place / "var/lib/dpkg/status").write_text("broken\n")
    with pytest.raises(DpkgError, match="dpkg-query ended with 2"):
        system.present()


def test_a_system_without_dpkg_is_named(tmp_path: Path) -> None:
    with pytest.raises(DpkgError, match="no folder /var/lib/dpkg/info"):
        Packages(str(tmp_path)).go_back({"driver": "1"}, str(tmp_path))


def test_what_was_cut_off_half_way_is_whole_again(system: System) -> None:
    """The power went as dpkg unpacked: a new package has no list of files yet, an old one is neither."""
    system.install(system.deb("old", "1", "usr/lib/old"))
    before = system.present()
    cut = "#!/bin/sh\nkill -9 $PPID\n"
    for name in ("old", "new"):
        file = system.deb(name, "2", "usr/lib/more", preinst=cut)
        assert system.below(["dpkg", "--install", str(file)])[0] == -9
    assert system.present() == {"old": "1 H", "new": "2 H"}
    assert system.cut_off(before) == ["new", "old"]
    assert system.goes_back(before) == []
    assert system.present() == before
    assert system.cut_off(before) == []
