"""``appliance lock`` and ``appliance build``, from the command line to what is left on the disk."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .archive import Archive
    from .conftest import Index, Web

DEFINITION = """\
format: 1
product: small
version: "1.0.0"
sequence: 1
target: {distribution: debian, suite: trixie, architecture: amd64, python: "3.13"}
components:
  model: {kind: tiny-gguf, sentence: An answer., licence: CC0-1.0}
  engine: {kind: python, requirements: [app]}
  system: {kind: debian, packages: [base]}
inference: {engine: engine, model: model, file: tiny.gguf, name: small}
"""
WHEEL = "app-1.0-py3-none-any.whl"


@pytest.fixture
def definition(
    index: Index,
    archive: Archive,
    web: Web,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A definition in a folder of its own, on a station that knows our index and our archive."""
    index.add("app", filler=2_000_000)
    archive.add("base")
    archive.publish()
    monkeypatch.setenv("APPLIANCE_DEBIAN_MIRROR", f"{web.address}/debian")
    monkeypatch.setenv("APPLIANCE_DEBIAN_KEYRING", str(archive.signer.keyring))
    monkeypatch.setenv("APPLIANCE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-settings"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    folder = tmp_path / "site"
    folder.mkdir()
    path = folder / "small.yaml"
    path.write_text(DEFINITION)
    return path


def run_elsewhere(*arguments: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own; ``before`` is put before its command line."""
    command = [*before, str(Path(sys.executable).with_name("appliance")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def list_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_definition_becomes_a_lock_and_the_lock_a_bundle(
    definition: Path, run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("lock", definition, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["artefacts"] == {"model": 1, "engine": 2, "system": 2}
    assert result["lock"] == str(definition.with_name("small.lock.json"))
    lock = json.loads(definition.with_name("small.lock.json").read_text())
    assert lock["created"] == "2026-01-01T00:00:00Z"
    assert lock["components"]["system"]["packages"] == ["base"]

    assert run("build", definition, "--out", tmp_path / "bundle", "--json") == 0
    built = json.loads(capsys.readouterr().out)
    assert built["size"] == lock_size(lock)
    check = ["sha256sum", "--check", "--strict", "--quiet", "trust/SHA256SUMS"]
    subprocess.run(check, cwd=tmp_path / "bundle", check=True)
    digest = subprocess.run(
        ["sha256sum", tmp_path / "bundle" / "trust" / "SHA256SUMS"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert digest.stdout.split()[0] == built["digest"]


def lock_size(lock: dict[str, dict[str, dict[str, list[dict[str, int]]]]]) -> int:
    return sum(
        artefact["size"] for component in lock["components"].values() for artefact in component["artefacts"]
    )


def test_no_address_is_in_the_lock(definition: Path, run: Callable[..., int]) -> None:
    assert run("lock", definition) == 0
    text = definition.with_name("small.lock.json").read_text()
    assert "://" not in text
    assert "127.0.0.1" not in text


def test_the_same_lock_gives_the_same_bytes_elsewhere_later_and_from_an_empty_store(
    definition: Path, run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("lock", definition) == 0
    assert run("build", definition, "--out", tmp_path / "one") == 0
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    old = os.umask(0o077)
    try:
        (tmp_path / "deeper").mkdir()
        assert (
            run("build", definition, "--out", tmp_path / "deeper" / "two", "--store", tmp_path / "cold")
            == 0
        )
    finally:
        os.umask(old)
    sums = [
        (folder / "trust" / "SHA256SUMS").read_bytes()
        for folder in (tmp_path / "one", tmp_path / "deeper/two")
    ]
    assert sums[0] == sums[1]


def test_progress_says_n_of_total_and_bytes(
    definition: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("lock", definition) == 0
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("resolve: 3 of 3") for line in lines)
    assert "1 of 3 artefacts are in the store" in lines
    assert any(line.startswith("fetch: 2 of 2, 2.0 of 2.0 MB") for line in lines)


# --- what an operator can do wrong --------------------------------------------------------------

WRONG = {
    "malformed YAML": (DEFINITION.replace("format: 1", "format: [1"), "DefinitionInvalid", ":2:8: "),
    "an unknown key": (DEFINITION + "extra: 1\n", "DefinitionInvalid", ":11:1: "),
    "a wrong type": (DEFINITION.replace("sequence: 1", "sequence: x"), "DefinitionInvalid", ":4:11: "),
    "a duplicate key": (DEFINITION + "format: 1\n", "DefinitionInvalid", ":11:1: "),
    "an unknown kind": (DEFINITION.replace("kind: debian", "kind: rpm"), "DefinitionInvalid", ":9:18: "),
    "a missing wheel": (DEFINITION.replace("[app]", "[app, nope]"), "PackageMissing", ":8:40: "),
    "a missing package": (DEFINITION.replace("[base]", "[base, nope]"), "PackageMissing", ":9:43: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_definition_is_named_with_its_place_and_nothing_is_written(
    definition: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str], case: str
) -> None:
    text, error, place = WRONG[case]
    definition.write_text(text)
    assert run("lock", definition, "--json") == 3
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"] == error
    assert f"{definition}{place}error: " in printed.err
    assert list_files(definition.parent) == ["small.yaml"]


def test_a_definition_that_is_not_there(run: Callable[..., int], tmp_path: Path) -> None:
    assert run("lock", tmp_path / "nothing.yaml") == 3


def test_a_failed_lock_leaves_the_old_one(definition: Path, run: Callable[..., int]) -> None:
    assert run("lock", definition) == 0
    lock = definition.with_name("small.lock.json")
    before = lock.read_bytes()
    definition.write_text(DEFINITION.replace("[app]", "[nope]"))
    assert run("lock", definition) == 3
    assert lock.read_bytes() == before
    assert list_files(definition.parent) == ["small.lock.json", "small.yaml"]


def test_a_definition_without_a_lock_is_not_built(
    definition: Path, run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("build", definition, "--out", tmp_path / "bundle", "--json") == 3
    assert json.loads(capsys.readouterr().out)["error"] == "LockInvalid"


def test_a_lock_of_another_definition_is_refused(
    definition: Path, run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("lock", definition) == 0
    definition.write_text(DEFINITION + "# a comment\n")
    capsys.readouterr()
    assert run("build", definition, "--out", tmp_path / "bundle", "--json") == 3
    assert json.loads(capsys.readouterr().out)["error"] == "LockInvalid"
    assert not (tmp_path / "bundle").exists()


def test_other_numbers_keep_the_pins_of_the_lock_before(
    definition: Path, run: Callable[..., int], tmp_path: Path, web: Web, index: Index
) -> None:
    """Although the archives have something newer by now, and another day has come."""
    assert run("lock", definition) == 0
    kept = definition.with_name("small.lock.json")
    index.add("app", "2.0")
    definition.write_text(DEFINITION.replace("sequence: 1", "sequence: 2").replace("1.0.0", "1.1"))
    web.asked.clear()
    again = definition.with_name("again.json")
    assert run("lock", definition, "--keep", kept, "--out", again) == 0
    assert web.asked == []
    one, two = (json.loads(path.read_text()) for path in (kept, again))
    assert (two.pop("version"), two.pop("sequence")) == ("1.1", 2)
    assert two.pop("definition") == hashlib.sha256(definition.read_bytes()).hexdigest()
    assert two == {key: one[key] for key in two}
    assert run("build", definition, "--lock", again, "--out", tmp_path / "bundle") == 0
    definition.write_text(definition.read_text() + "# and more\n")
    assert run("lock", definition, "--keep", kept, "--out", again) == 3
    assert json.loads(again.read_text())["sequence"] == 2


def test_an_existing_folder_is_left_alone(
    definition: Path, run: Callable[..., int], tmp_path: Path, web: Web
) -> None:
    assert run("lock", definition) == 0
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine").touch()
    web.asked.clear()
    assert run("build", definition, "--out", tmp_path / "bundle", "--store", tmp_path / "cold") == 2
    assert list_files(tmp_path / "bundle") == ["mine"]
    assert web.asked == []


def test_a_root_that_is_not_there_or_is_none(
    definition: Path, run: Callable[..., int], tmp_path: Path
) -> None:
    assert run("lock", definition) == 0
    assert run("build", definition, "--out", tmp_path / "b", "--root", tmp_path / "none.json") == 4
    (tmp_path / "root.json").write_text("{}")
    assert run("build", definition, "--out", tmp_path / "b", "--root", tmp_path / "root.json") == 4
    assert not (tmp_path / "b").exists()


# --- what can go wrong on the way ---------------------------------------------------------------


def nothing_left(tmp_path: Path, name: str = "bundle") -> bool:
    return not [path for path in tmp_path.iterdir() if name in path.name]


def test_with_a_warm_store_a_build_needs_no_network(
    definition: Path, run: Callable[..., int], tmp_path: Path
) -> None:
    """In a network namespace without any interface, loopback included."""
    assert run("lock", definition) == 0
    done = run_elsewhere(
        "build", definition, "--out", tmp_path / "bundle", before=("unshare", "--map-root-user", "--net")
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bundle" / "manifest.json").exists()


def test_without_network_and_store_a_source_is_unreachable(
    definition: Path, run: Callable[..., int], tmp_path: Path
) -> None:
    assert run("lock", definition) == 0
    done = run_elsewhere(
        *("build", definition, "--out", tmp_path / "bundle", "--store", tmp_path / "cold", "--json"),
        before=("unshare", "--map-root-user", "--net"),
    )
    assert done.returncode == 6, done.stderr
    assert json.loads(done.stdout)["error"] == "SourceUnreachable"
    assert nothing_left(tmp_path)


def test_other_bytes_than_locked_end_the_build(
    definition: Path, run: Callable[..., int], tmp_path: Path, web: Web, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("lock", definition) == 0
    data = (web.root / "files" / WHEEL).read_bytes()
    web.instead[f"files/{WHEEL}"] = data[:-1] + bytes([data[-1] ^ 1])
    capsys.readouterr()
    arguments = ("build", definition, "--out", tmp_path / "bundle", "--store", tmp_path / "cold")
    assert run(*arguments, "--json") == 4
    assert json.loads(capsys.readouterr().out)["error"] == "DigestMismatch"
    assert nothing_left(tmp_path)
    web.instead.clear()
    assert run(*arguments) == 0


def test_a_store_gone_bad_is_found_cleaned_and_filled_again(
    definition: Path, run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("lock", definition) == 0
    lock = json.loads(definition.with_name("small.lock.json").read_text())
    digest = next(
        artefact["sha256"]
        for artefact in lock["components"]["engine"]["artefacts"]
        if artefact["path"] == WHEEL
    )
    path = tmp_path / "store" / "objects" / digest[:2] / digest
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    capsys.readouterr()
    assert run("build", definition, "--out", tmp_path / "bundle") == 4
    assert not path.exists()
    said = capsys.readouterr().err
    assert f"removed from the store, its bytes had changed: {WHEEL}" in said
    assert "do: run the build again: what was removed is fetched anew" in said
    assert "delete" not in said
    assert nothing_left(tmp_path)
    assert run("build", definition, "--out", tmp_path / "bundle") == 0


@pytest.mark.parametrize("full", ["out", "store"])
def test_a_disk_too_small_is_said_before_anything_is_fetched(
    definition: Path, run: Callable[..., int], tmp_path: Path, web: Web, full: str
) -> None:
    """On a file system of 1 MB, mounted in a mount namespace of its own."""
    assert run("lock", definition) == 0
    place = tmp_path / "place"
    place.mkdir()
    web.asked.clear()
    out, store = (
        (place / "bundle", tmp_path / "cold") if full == "out" else (tmp_path / "bundle", place / "store")
    )
    mount = f'mount -t tmpfs -o size=1m none {place} && "$@"; code=$?; ls -A {place}; exit $code'
    done = run_elsewhere(
        *("build", definition, "--out", out, "--store", store, "--json"),
        before=("unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"),
    )
    assert done.returncode == 5, done.stderr
    assert '"error": "SpaceExhausted"' in done.stdout
    assert web.asked == []
    assert nothing_left(tmp_path)
    assert "bundle" not in done.stdout.splitlines()


def wait_for(condition: Callable[[], bool]) -> None:
    """Return as soon as it holds; what the server has sent, the client need not have written yet."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_an_interrupted_build_leaves_no_bundle_and_the_next_one_goes_on(
    definition: Path, run: Callable[..., int], tmp_path: Path, web: Web, how: signal.Signals
) -> None:
    assert run("lock", definition) == 0
    web.cut[f"files/{WHEEL}"] = 1_500_000
    release = web.hold[f"files/{WHEEL}"] = threading.Event()
    arguments = [
        "build",
        str(definition),
        "--out",
        str(tmp_path / "bundle"),
        "--store",
        str(tmp_path / "cold"),
    ]
    program = str(Path(sys.executable).with_name("appliance"))
    with subprocess.Popen([program, *arguments], stderr=subprocess.DEVNULL) as process:
        assert web.held.wait(30)
        wait_for(
            lambda: any(path.stat().st_size > 1_400_000 for path in (tmp_path / "cold/partial").iterdir())
        )
        process.send_signal(how)
        code = process.wait(20)  # the server is silent still, for which 60 seconds are allowed
        release.set()
    assert code == (130 if how == signal.SIGINT else -how)
    assert nothing_left(tmp_path)
    web.asked.clear()
    assert run(*arguments) == 0
    (header,) = web.ranges_of(WHEEL)
    assert header is not None
    assert int(header.removeprefix("bytes=").rstrip("-")) >= 1_400_000
    assert (tmp_path / "bundle" / "manifest.json").exists()


def test_an_interrupted_build_waits_for_no_index(
    definition: Path, run: Callable[..., int], tmp_path: Path, web: Web
) -> None:
    """A wheel is found again on its page, which is asked for before the file."""
    assert run("lock", definition) == 0
    page = "simple/app/"
    web.cut[page] = 10
    release = web.hold[page] = threading.Event()
    web.held.clear()
    program = str(Path(sys.executable).with_name("appliance"))
    arguments = ["build", str(definition), "--out", str(tmp_path / "bundle")]
    arguments += ["--store", str(tmp_path / "cold")]
    with subprocess.Popen([program, *arguments], stderr=subprocess.DEVNULL) as process:
        assert web.held.wait(30)
        process.send_signal(signal.SIGINT)
        code = process.wait(20)
        release.set()
    assert code == 130
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("page", ["simple/app/", "debian/dists/trixie/InRelease"])
def test_an_interrupted_lock_waits_for_no_resolver(definition: Path, web: Web, page: str) -> None:
    """Uv and apt would wait for their server as long as that takes."""
    web.cut[page] = 10
    release = web.hold[page] = threading.Event()
    program = str(Path(sys.executable).with_name("appliance"))
    with subprocess.Popen([program, "lock", str(definition)], stderr=subprocess.DEVNULL) as process:
        assert web.held.wait(30)
        process.send_signal(signal.SIGINT)
        code = process.wait(15)
        release.set()
    assert code == 130
    assert list_files(definition.parent) == ["small.yaml"]


def test_a_killed_build_goes_on_with_debian_packages_too(
    definition: Path, run: Callable[..., int], tmp_path: Path, web: Web, archive: Archive
) -> None:
    """The killed program takes apt along, which would keep its lock; what came of a package is kept."""
    name = archive.add("base", filler=2_000_000).name
    archive.publish()
    path = f"debian/pool/{name}"
    assert run("lock", definition) == 0
    web.cut[path] = 1_500_000
    release = web.hold[path] = threading.Event()
    web.held.clear()
    arguments = [
        "build",
        str(definition),
        "--out",
        str(tmp_path / "bundle"),
        "--store",
        str(tmp_path / "cold"),
    ]
    program = str(Path(sys.executable).with_name("appliance"))
    with subprocess.Popen([program, *arguments], stderr=subprocess.DEVNULL) as process:
        assert web.held.wait(30)
        wait_for(
            lambda: any(
                path.stat().st_size > 1_000_000
                for path in (tmp_path / "cold" / "apt").glob("*/cache/archives/partial/*.deb")
            )
        )
        process.kill()
        process.wait(30)
        release.set()
    web.asked.clear()
    assert run(*arguments) == 0
    (header,) = web.ranges_of(name)
    assert header is not None
    assert int(header.removeprefix("bytes=").rstrip("-")) >= 1_000_000
