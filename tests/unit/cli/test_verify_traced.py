"""What ``verify`` asks the system for, seen from outside: no network, no link followed, nothing read again.

Bytes that were looked at must be the bytes that are judged.  So each file of the payload is opened once,
below a folder that is open already, and never by its name again.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PROGRAM = (sys.executable, "-c", "from appliance.cli.app import main; main()")
_OPEN = re.compile(
    r'open(?:at2?)?\((?:(?P<at>\S+?)(?:<[^>]*>)?, )?"(?P<name>(?:[^"\\]|\\.)*)", (?P<flags>[^)]*)\) = '
    r"(?:\d+<(?P<path>[^>]*)>|-1)"
)


class Opened(NamedTuple):
    """A successful call: what it opened, by which name, how."""

    path: str
    name: str
    flags: frozenset[str]


def traced(tmp_path: Path, calls: str, command: Sequence[object]) -> tuple[int, str]:
    """Run a program; its exit code, and its calls of these kinds, of all its threads and processes."""
    strace = shutil.which("strace")
    assert strace, "strace is in system-packages.txt"
    logs = tmp_path / "strace"
    logs.mkdir()
    # A file for each thread: in one for all, a call is in two pieces where another thread's comes between.
    trace = [strace, "-ff", "-y", "-s", "4096", "-e", f"trace={calls}", "-o", str(logs / "log")]
    done = subprocess.run([*trace, *map(str, command)], capture_output=True, check=False)
    log = "".join(each.read_text() for each in sorted(logs.iterdir()))
    shutil.rmtree(logs)
    return done.returncode, log


def openings(log: str, folders: Sequence[Path]) -> list[Opened]:
    """What was opened below these folders."""
    found = []
    for match in _OPEN.finditer(log):
        path = match["path"] or ""
        if any(path == str(folder) or path.startswith(f"{folder}/") for folder in folders):
            flags = frozenset(re.split(r"[|, ]+", match["flags"]))
            found.append(Opened(path, match["name"], flags))
    return found


@pytest.fixture(params=["one folder", "two volumes"])
def folders(request: pytest.FixtureRequest, bundle: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    return [bundle] if request.param == "one folder" else volumes(bundle, 2)


def _may_be_tried_again(path: str, command: str, folders: Sequence[Path]) -> bool:
    """Whether a file may be opened more often; none of the payload may.

    The manifest is, to see whether it is there, before anything is judged.  Of several volumes, what lies
    on each is, to find who has it and to compare the copies.  ``inspect`` reads anew what it shows, and
    compares its digest with the one that was verified.
    """
    if "/payload/" in path:
        return False
    return command == "inspect" or len(folders) > 1 or path.endswith("/manifest.json")


def test_no_socket_of_the_internet_is_made(folders: list[Path], root_file: Path, tmp_path: Path) -> None:
    """Not even to look at a resolver."""
    verify = [*PROGRAM, "verify", *folders, "--trust", root_file]
    code, log = traced(tmp_path, "network", verify)
    assert code == 0
    assert "INET" not in log
    _, control = traced(
        tmp_path, "network", [sys.executable, "-c", "import socket; socket.socket().close()"]
    )
    assert "INET" in control, "strace would have shown it"


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_each_file_is_opened_once_and_no_link_is_followed(
    command: str, folders: list[Path], root_file: Path, tmp_path: Path
) -> None:
    code, log = traced(tmp_path, "open,openat,openat2", [*PROGRAM, command, *folders, "--trust", root_file])
    assert code == 0
    found = openings(log, folders)
    files = Counter(each.path for each in found if "O_DIRECTORY" not in each.flags)
    expected = {str(path) for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert set(files) == expected, "every file of the bundle, and nothing else there"
    again = {path for path, count in files.items() if count > 1}
    assert not [path for path in again if not _may_be_tried_again(path, command, folders)]
    for each in found:
        assert each.flags & {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"} == set()
        if each.path not in map(str, folders):  # those a person named, and may reach by a link
            assert "O_NOFOLLOW" in each.flags, each
            assert "/" not in each.name, "a path of several parts could lead through a link"


#: Looked for by path before anything is opened, to say what kind of folder this is; no link is followed.
PROBED = ("/recovery.json", "/volume.json", "/volume.json.partial", "/spare", "/trust/SHA256SUMS")


def test_no_file_is_looked_at_through_a_link(folders: list[Path], root_file: Path, tmp_path: Path) -> None:
    """Below the folders that were named, everything goes by a folder that is open or the file itself."""
    calls = "%%stat,readlink,readlinkat,access,faccessat,faccessat2"
    code, log = traced(tmp_path, calls, [*PROGRAM, "verify", *folders, "--trust", root_file])
    assert code == 0
    below = re.compile("|".join(f'"{re.escape(str(folder))}/[^"]*' for folder in folders))
    for line in log.splitlines():
        if match := below.search(line):
            assert "AT_SYMLINK_NOFOLLOW" in line, line
            assert match[0].endswith(PROBED), line
        elif any(f"<{folder}" in line for folder in folders) and "newfstatat" in line:
            assert re.search(r'"", |AT_SYMLINK_NOFOLLOW', line), line


def test_strace_would_show_what_is_opened_twice(bundle: Path, tmp_path: Path) -> None:
    """The control: an ordinary program, and that its calls are understood."""
    program = "import sys; [open(sys.argv[1]).close() for _ in range(2)]"
    target = bundle / "VERIFY.txt"
    _, log = traced(tmp_path, "open,openat,openat2", [sys.executable, "-c", program, target])
    found = openings(log, [bundle])
    assert [each.path for each in found] == [str(target)] * 2
    assert all("O_NOFOLLOW" not in each.flags for each in found)
