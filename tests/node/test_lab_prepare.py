"""Building the root file system: the one step with a network, and what is left when it is cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.errors import LabFailed
from appliance.lab.recipe import Recipe
from appliance.lab.rootfs import run_build

if TYPE_CHECKING:
    from collections.abc import Iterator

APPLIANCE = str(Path(sys.executable).with_name("appliance"))


def test_a_failed_build_shows_the_end_of_its_log() -> None:
    with pytest.raises(LabFailed, match="exit code 3") as caught:
        run_build(["sh", "-c", "seq 100; echo no such suite >&2; exit 3"])
    found = caught.value.found or ""
    assert found.endswith("no such suite")
    assert "\n         50\n" not in found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "APPLIANCE_LAB_FOLDER": str(tmp_path / "labs"),
        "APPLIANCE_LAB_CACHE": str(tmp_path / "cache"),
    }


def _prepare(environment: dict[str, str]) -> subprocess.Popen[str]:
    """A build that has come far enough to have mounted and unpacked something."""
    process = subprocess.Popen(
        [APPLIANCE, "lab", "prepare"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    cache = Path(environment["APPLIANCE_LAB_CACHE"])
    while not any(cache.glob(".partial-*/root/var/lib/dpkg/status")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    return process


def _builders(cache: str) -> Iterator[int]:
    """Processes that still run with the cache's folder on their command line."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            if cache.encode() in (entry / "cmdline").read_bytes():
                yield int(entry.name)
        except OSError:  # it ended meanwhile
            continue


@pytest.mark.node
@pytest.mark.archive
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_an_empty_cache(
    environment: dict[str, str], number: signal.Signals
) -> None:
    process = _prepare(environment)
    process.send_signal(number)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 130, output
    cache = environment["APPLIANCE_LAB_CACHE"]
    assert list(_builders(cache)) == []
    assert list(Path(cache).iterdir()) == []


@pytest.mark.node
@pytest.mark.archive
def test_a_killed_build_takes_its_processes_along_and_down_clears_up(environment: dict[str, str]) -> None:
    process = _prepare(environment)
    cache = environment["APPLIANCE_LAB_CACHE"]
    watched = [os.pidfd_open(pid) for pid in _builders(cache)]
    assert watched
    process.kill()
    process.communicate()
    for descriptor in watched:
        assert _ends(descriptor)
        os.close(descriptor)
    assert list(_builders(cache)) == []
    assert cache not in Path("/proc/mounts").read_text()
    subprocess.run([APPLIANCE, "lab", "down", "--all"], env=environment, check=True)
    assert list(Path(cache).iterdir()) == []


def _ends(process: int) -> bool:
    import select

    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(10_000))


@pytest.mark.node
def test_without_an_archive_a_build_fails_by_name_and_leaves_nothing(environment: dict[str, str]) -> None:
    """The network namespace is empty, so no archive can be reached from it."""
    command = ["unshare", "--net", APPLIANCE, "lab", "up", "ward"]
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 7, done.stderr
    assert "mmdebstrap could not build the root file system" in done.stderr
    assert list(Path(environment["APPLIANCE_LAB_CACHE"]).iterdir()) == []
    assert not Path(environment["APPLIANCE_LAB_FOLDER"]).exists()


@pytest.mark.node
def test_the_prepared_root_is_the_recipes() -> None:
    done = subprocess.run([APPLIANCE, "lab", "prepare"], check=True, capture_output=True, text=True)
    root = Path(done.stdout.strip())
    assert root.parent.name == Recipe().digest
    for name, text in Recipe().written.items():
        assert (root / name).read_text() == text
    for pattern in Recipe().removed:
        assert list(root.glob(pattern)) == []
