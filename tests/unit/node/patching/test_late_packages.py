"""Which packages count from the next start on, by what dpkg says; how they go back, and what is told."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

import pytest

from appliance.node.remote import late_packages
from appliance.node.remote.late_packages import INFO, LOCK, Packages, run

Said = dict[str, str]


class Dpkg:
    """What dpkg would do, in memory: packages by name, with their state; ``refuses`` some."""

    def __init__(self, **packages: str) -> None:
        self.packages: Said = packages
        self.states: Said = {}
        self.refuses: set[str] = set()
        self.said: list[list[str]] = []

    def __call__(self, command: list[str]) -> tuple[int, str]:
        self.said.append(command)
        program, verb = command[:2]
        if program == "dpkg-query":
            rows = [
                f"{self.states.get(name, 'ii ')}\t{name}\t{version}"
                for name, version in self.packages.items()
            ]
            return 0, "\n".join([*rows, "a line that is none"])
        if program == "dpkg-deb":
            return run(command)
        if verb == "--install":
            for file in (each for each in command if each.endswith(".deb")):
                name, version, _ = Path(file).stem.split("_")
                if name not in self.refuses:
                    self.packages[name] = version
                    self.states.pop(name, None)
        if verb == "--remove":
            for name in {*command[3:]} - self.refuses:
                self.packages.pop(name)
        return int(bool(self.refuses)), "dpkg: error: no\n\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / INFO).mkdir(parents=True)
    return tmp_path


def brings(root: Path, name: str, *files: str, script: str = "") -> None:
    (root / INFO / f"{name}.list").write_text("".join(f"{path}\n" for path in ("/.", *files)))
    if script:
        (root / INFO / f"{name}.postinst").write_text(script)


@pytest.mark.parametrize(
    "file",
    [
        "/lib/modules/6.12.0-amd64/kernel/drivers/net/e1000e.ko.xz",
        "/usr/lib/modules/6.12.0-amd64/updates/dkms/nvidia.ko",
        "/lib/modules/6.12.0-amd64/extra/nvidia.ko.zst",
        "/boot/vmlinuz-6.12.0-amd64",
        "/usr/src/nvidia-current-550.163.01/dkms.conf",
    ],
)
def test_kernels_modules_and_their_sources_count_from_the_next_start_on(file: str, root: Path) -> None:
    brings(root, "late", "/usr/share/doc/late", file)
    assert Packages(str(root)).is_late("late")
    assert Packages(str(root)).is_late("late:amd64"), (
        "dpkg names the files of most without the architecture"
    )


@pytest.mark.parametrize(
    "file",
    [
        "/usr/sbin/sshd",
        "/usr/share/doc/vmlinuz-howto",
        "/usr/lib/modules-load.d/fuse.conf",
        "/lib/modules/6.12.0-amd64/modules.order",
        "/usr/src/linux-headers-6.12/Makefile",
        "/lib/firmware/nvidia/gsp.bin",
    ],
)
def test_others_count_at_once(file: str, root: Path) -> None:
    brings(root, "early", file, script="#!/bin/sh\nset -e\nsystemctl daemon-reload\n")
    assert not Packages(str(root)).is_late("early")
    assert not Packages(str(root)).is_late("unknown")


def test_a_package_that_asks_for_a_restart_counts_from_then_on(root: Path) -> None:
    brings(root, "libc6", "/lib/libc.so.6", script="touch /run/reboot-required\n")
    assert Packages(str(root)).is_late("libc6")


def test_what_was_cut_off_is_not_what_was_there(root: Path) -> None:
    dpkg = Dpkg(a="1", b="1", gone="1", never="")
    packages = Packages(str(root), dpkg)
    before = packages.present()
    dpkg.states = {"b": "iU ", "gone": "rc ", "never": "un "}
    assert packages.present() == {"a": "1", "b": "1 U"}
    assert packages.changed(before) == {"b": "1", "gone": "1", "never": ""}


def deb(folder: Path, name: str, version: str) -> Path:
    tree = folder / f".{name}-{version}"
    (tree / "DEBIAN").mkdir(parents=True)
    control = {
        "Package": name,
        "Version": version,
        "Architecture": "all",
        "Maintainer": "x",
        "Description": "x",
    }
    (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in control.items()))
    file = folder / "payload/system" / f"{name}_{version}_all.deb"
    file.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["dpkg-deb", "-Znone", "--build", str(tree), str(file)], check=True, capture_output=True)
    return file


def test_all_that_changed_goes_back_from_the_copy_and_what_is_new_is_removed(root: Path) -> None:
    dpkg = Dpkg(driver="2", libs="2", new="1", other="7")
    copy = root / "copy"
    files = [deb(copy, "driver", "1"), deb(copy, "libs", "1")]
    deb(copy, "driver", "1.1"), deb(copy, "driver-more", "1")
    before = {"driver": "1", "libs": "1", "other": "7"}
    assert Packages(str(root), dpkg).go_back(before, str(copy)) == []
    assert dpkg.packages == before
    (installed,) = [command for command in dpkg.said if command[:2] == ["dpkg", "--install"]]
    assert installed[-2:] == [str(file) for file in files], "in one call, since they may need each other"
    assert "--force-downgrade" in installed


def test_what_is_not_in_the_copy_or_is_refused_is_told(root: Path) -> None:
    dpkg = Dpkg(driver="2", libs="2", new="1")
    copy = root / "copy"
    deb(copy, "driver", "1")
    dpkg.refuses = {"new"}
    told = Packages(str(root), dpkg).go_back({"driver": "1", "libs": "1"}, str(copy))
    why = "(dpkg: error: no)"
    assert told == [f"libs is not at 1 again {why}", f"new is still installed {why}"]


def test_somebody_elses_lock_is_waited_for_and_then_told(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dpkg = Dpkg(driver="2")
    monkeypatch.setattr(late_packages, "PATIENCE", 1)
    held = "import fcntl,sys;f=open(sys.argv[1],'a');fcntl.lockf(f,fcntl.LOCK_EX);print(flush=True);input()"
    with subprocess.Popen(
        ["python3", "-c", held, str(root / LOCK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        other.stdout.readline()
        (told,) = Packages(str(root), dpkg).go_back({"driver": "1"}, str(root))
        other.communicate(b"\n")
    assert "dpkg's lock was not free for 1 s" in told
    assert dpkg.said == []
    with (root / LOCK).open("a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)  # it is free again


def test_a_program_that_is_not_there_is_a_failure() -> None:
    assert run(["no-such-program"])[0] == 1
