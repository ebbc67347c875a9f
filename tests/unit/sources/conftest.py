"""A package index and a Debian archive of our own, served on loopback and really signed."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from appliance.cli.app import main
from appliance.definition.names import Target
from appliance.progress import Silent
from appliance.sources import python_indexes
from appliance.sources.station import DebianSettings, Settings, Station
from appliance.sources.stopping import StopSignal
from appliance.sources.store import Store

from .archive import Archive, Signer
from .loopback import Silence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"


@dataclass
class Web:
    """Files served over HTTP with ranges, and what was asked for."""

    root: Path
    address: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """(path, Range header) of every request."""
    cut: dict[str, int] = field(default_factory=dict)
    """Paths whose next answer breaks off after so many bytes."""
    instead: dict[str, bytes] = field(default_factory=dict)
    """Paths answered with other bytes."""
    hold: dict[str, threading.Event] = field(default_factory=dict)
    """Paths whose answer, once cut, neither goes on nor ends until the event is set."""
    held: threading.Event = field(default_factory=threading.Event)
    """Set when such an answer has got that far."""
    ranges: bool = True

    def ranges_of(self, name: str) -> list[str | None]:
        """The Range headers of all requests for a file."""
        return [header for path, header in self.asked if path.endswith(name)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, web: Web, *rest: object) -> None:
        self._web = web
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        web = self._web
        path = unquote(self.path.lstrip("/"))
        asked = self.headers.get("Range")
        if self.command == "GET":
            web.asked.append((path, asked))
        file = web.root / path / "index.json" if path.endswith("/") else web.root / path
        if path not in web.instead and not file.is_file():
            self.send_error(404)
            return
        data = web.instead.get(path) or file.read_bytes()
        first, last = _range(asked if web.ranges else None, len(data))
        if first > last:
            self.send_error(416)
            return
        part = data[first : last + 1]
        self.send_response(206 if asked and web.ranges else 200)
        if asked and web.ranges:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Type", SIMPLE_JSON if path.endswith("/") else "application/octet-stream")
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")  # apt resumes only what has it
        self.send_header("Accept-Ranges", "bytes" if web.ranges else "none")
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = web.cut.pop(path, None)
        self.wfile.write(part[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
        if path in web.hold:
            web.held.set()
            web.hold.pop(path).wait(30)

    do_HEAD = do_GET  # noqa: N815 - the name http.server asks for

    def log_message(self, *_: object) -> None: ...


def _range(asked: str | None, size: int) -> tuple[int, int]:
    """First and last byte of an answer (RFC 9110, section 14.1.2)."""
    first, _, last = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
    if not first:
        return max(size - int(last), 0), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A web server on loopback for the files in a folder."""
    root = tmp_path / "web"
    root.mkdir()
    served = Web(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, served))
    server.daemon_threads = True
    served.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def _configuration_of_environment() -> str:
    """What ``pip config list`` prints when there are no configuration files."""
    options = {
        name[4:].lower().replace("_", "-"): value
        for name, value in os.environ.items()
        if name[:4] == "PIP_"
    }
    return "".join(f":env:.{option}={value!r}\n" for option, value in sorted(options.items()))


@dataclass
class Index:
    """A package index with wheels made on the spot; this station's pip is configured to use it."""

    web: Web

    def add(
        self,
        project: str,
        version: str = "1.0",
        *,
        tag: str = "py3-none-any",
        metadata: str = "License-Expression: MIT\n",
        filler: int = 0,
        suffix: str = ".whl",
    ) -> Path:
        """Publish a wheel (or, by its suffix, something else), ``filler`` bytes longer than it must be."""
        file = (
            self.web.root / "files" / f"{project}-{version}{'-' + tag if suffix == '.whl' else ''}{suffix}"
        )
        file.parent.mkdir(exist_ok=True)
        info = f"{project}-{version}.dist-info"
        core = f"Metadata-Version: 2.4\nName: {project}\nVersion: {version}\n{metadata}\n"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as wheel:
            wheel.writestr(f"{project}/__init__.py", f"version = {version!r}\n" + "#" * filler)
            wheel.writestr(f"{info}/METADATA", core)
            wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
            wheel.writestr(f"{info}/RECORD", "")
        self.publish()
        return file

    def publish(self, *, sizes: bool = True) -> None:
        """Write the index pages for the files there are."""
        projects: dict[str, list[Path]] = {}
        for file in sorted((self.web.root / "files").iterdir()):
            projects.setdefault(file.name.partition("-")[0], []).append(file)
        for project, files in projects.items():
            entries = [
                {
                    "filename": file.name,
                    "url": f"{self.web.address}/files/{file.name}",
                    "hashes": {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()} if sizes else {},
                    **({"size": file.stat().st_size} if sizes else {}),
                }
                for file in files
            ]
            page = {"meta": {"api-version": "1.1"}, "name": project, "versions": [], "files": entries}
            folder = self.web.root / "simple" / project.replace("_", "-")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "index.json").write_text(json.dumps(page))


@pytest.fixture
def index(web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Index:
    """The only package index that pip, and so this program, knows."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"{web.address}/simple/")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    # Starting pip takes longer than all the rest; test_python_indexes asks the real one.
    monkeypatch.setattr(python_indexes, "_pip_configuration", _configuration_of_environment)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    return Index(web)


@pytest.fixture(scope="session")
def signers() -> Iterator[dict[str, Signer]]:
    """Two keys: the archive's, and one of somebody else."""
    folder = Path(tempfile.mkdtemp(prefix="gpg-"))  # short: gpg-agent's socket lies in it
    made = {name: Signer(folder, name) for name in ("archive", "other")}
    yield made
    for signer in made.values():
        signer.stop()
    shutil.rmtree(folder)


@pytest.fixture
def archive(web: Web, signers: dict[str, Signer]) -> Archive:
    """An empty Debian archive; its address is ``debian`` below the web server's."""
    root = web.root / "debian"
    root.mkdir()
    return Archive(root, signers["archive"])


@pytest.fixture
def debian_settings(web: Web, signers: dict[str, Signer]) -> Settings:
    """A station that knows that archive and its key."""
    return Settings(
        debian=DebianSettings(mirror=f"{web.address}/debian", keyring=str(signers["archive"].keyring))
    )


@pytest.fixture
def target() -> Target:
    """The system of the demonstration."""
    return Target(distribution="debian", suite="trixie", architecture="amd64", python="3.13")


class Unhurried(StopSignal):
    """A stop signal on which nobody waits in vain: the pauses asked for are noted, not made."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        return self.is_set()


@pytest.fixture
def silence() -> Iterator[Silence]:
    silence = Silence()
    yield silence
    silence.release.set()


@pytest.fixture
def new_station(tmp_path: Path) -> Callable[..., Station]:
    """Makes stations; all have the same definition folder, each its own store unless it is named."""

    def make(store: str = "store", settings: Settings | None = None) -> Station:
        folder = tmp_path / "definition"
        folder.mkdir(exist_ok=True)
        return Station(Store(tmp_path / store), settings or Settings(), Silent(), folder, Unhurried())

    return make


@pytest.fixture
def station(new_station: Callable[..., Station]) -> Station:
    """A station with an empty store."""
    return new_station()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the program in this process; returns its exit code."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["appliance", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0)

    return run
