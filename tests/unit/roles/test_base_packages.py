"""Which packages ``staged_packages`` wants, and what apt is allowed to see."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INSTALLED = "install ok installed"

REPOSITORY = {
    "path": "/staged/system",
    "packages": ["ufw", "python3"],
    "files": [
        {"name": "ufw", "version": "0.36.2-9", "path": "payload/system/ufw_0.36.2-9_all.deb"},
        {"name": "python3", "version": "3.13.5-1", "path": "payload/system/python3_3.13.5-1_amd64.deb"},
        {"name": "iptables", "version": "1.8.11-2", "path": "payload/system/iptables_1.8.11-2_amd64.deb"},
        {"name": "Packages", "version": "1", "path": "payload/system/Packages"},
    ],
}


@pytest.fixture(scope="module")
def packages(role_module: Callable[[str], Any]) -> Any:
    return role_module("base/library/staged_packages.py")


def test_the_roots_are_what_the_definition_names(packages: Any) -> None:
    assert packages.wanted_roots([REPOSITORY]) == {"ufw": "0.36.2-9", "python3": "3.13.5-1"}


def test_without_roots_every_package_is_one_and_the_index_is_none(packages: Any) -> None:
    assert sorted(packages.wanted_roots([{**REPOSITORY, "packages": []}])) == ["iptables", "python3", "ufw"]


@pytest.mark.parametrize(
    ("repositories", "told"),
    [
        ([{**REPOSITORY, "packages": ["nginx"]}], "package nginx is named by the definition but not among"),
        (
            [
                REPOSITORY,
                {
                    **REPOSITORY,
                    "files": [{**REPOSITORY["files"][0], "version": "0.37"}],
                    "packages": ["ufw"],
                },
            ],
            "package ufw is staged as 0.36.2-9 and as 0.37",
        ),
    ],
)
def test_a_bundle_that_contradicts_itself_is_refused(packages: Any, repositories: Any, told: str) -> None:
    with pytest.raises(packages.Refused, match=told):
        packages.wanted_roots(repositories)


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        ({}, [("", "2.0")]),
        ({"ufw": (INSTALLED, "2.0")}, []),
        ({"ufw": (INSTALLED, "1.0")}, [("1.0", "2.0")]),
        ({"ufw": (INSTALLED, "3.0")}, []),  # never back to an older package
        ({"ufw": ("deinstall ok config-files", "2.0")}, [("", "2.0")]),
        ({"ufw": ("install ok half-configured", "2.0")}, [("", "2.0")]),
        ({"ufw": ("install ok unpacked", "2.0")}, [("", "2.0")]),
        ({"ufw": ("hold ok installed", "2.0")}, []),
    ],
)
def test_what_is_missing(packages: Any, present: Any, missing: list[tuple[str, str]]) -> None:
    found = packages.unsatisfied({"ufw": "2.0"}, present, lambda one, other: one < other)
    assert [(row["before"], row["after"]) for row in found] == missing


def test_versions_are_compared_as_dpkg_does(packages: Any) -> None:
    assert packages.is_older("1.0~rc1-1", "1.0-1")
    assert packages.is_older("1.9", "1.10")
    assert not packages.is_older("1:0.1", "9")


def test_only_what_an_interrupted_dpkg_left_is_half_installed(packages: Any) -> None:
    present = {
        "a": (INSTALLED, "1"),
        "b": ("install ok half-configured", "1"),
        "c": ("deinstall ok config-files", "1"),
        "d": ("install reinstreq half-installed", "1"),
        "e": ("install ok triggers-pending", "1"),
    }
    assert packages.half_installed(present) == ["b", "d", "e"]


def test_dpkgs_listing(packages: Any) -> None:
    twice = "libc6\tinstall ok installed\t2.41-12\n" * 2
    listing = twice + "old\tdeinstall ok config-files\t1\n"
    assert packages.parse_status(listing) == {
        "libc6": (INSTALLED, "2.41-12"),
        "old": ("deinstall ok config-files", "1"),
    }


def test_apts_simulation(packages: Any) -> None:
    """Recorded from apt 3.0 on Debian trixie; the second line as apt writes an upgrade."""
    output = (
        "Inst libjansson4 (2.14-2+b3 localhost [amd64])\n"
        "Inst curl [8.14.1-1] (8.14.1-2 localhost [amd64]) []\n"
        "Conf libjansson4 (2.14-2+b3 localhost [amd64])\n"
    )
    assert packages.parse_simulation(output) == [
        {"name": "curl", "before": "8.14.1-1", "after": "8.14.1-2"},
        {"name": "libjansson4", "before": "", "after": "2.14-2+b3"},
    ]


def test_apt_sees_the_staged_folders_and_nothing_of_the_node(packages: Any, tmp_path: Path) -> None:
    """Asked of apt itself: the configuration in force, and the addresses it would fetch from."""
    (tmp_path / "sources.list").write_text(packages.sources_list([REPOSITORY]))
    (tmp_path / "apt.conf").write_text(packages.apt_configuration(tmp_path))
    environment = {"APT_CONFIG": str(tmp_path / "apt.conf"), "PATH": "/usr/bin:/bin"}
    for name in ("lists/partial", "cache/archives/partial"):
        (tmp_path / name).mkdir(parents=True)

    def ask(*command: str) -> str:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    addresses = [line.split("'")[1] for line in ask("apt-get", "--print-uris", "update").splitlines()]
    assert addresses
    assert all(address.startswith("file:/staged/system/") for address in addresses)
    dump = ask("apt-config", "dump")
    assert 'APT::Get::Remove "false";' in dump
    assert 'Dir::Etc::parts "/dev/null";' in dump


def test_the_difference_names_every_package_with_its_versions(packages: Any) -> None:
    changes = [{"name": "curl", "before": "1", "after": "2"}, {"name": "ufw", "before": "", "after": "3"}]
    told = packages.difference(changes, complete=True)
    assert (told["before"], told["after"]) == ("curl 1\n", "curl 2\nufw 3\n")
    assert "known once the bundle is staged" in packages.difference(changes, complete=False)["after"]
