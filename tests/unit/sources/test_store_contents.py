"""What the store holds, for whom, and tidying up: what is needed, young or in use always stays."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from appliance.cli import app as program
from appliance.definition.lock import Artefact, Lock, LockedComponent, lock_text
from appliance.definition.names import Inference, Target
from appliance.errors import DigestMismatch, InProgress
from appliance.progress import Silent
from appliance.sources.fetching import fetch_locked
from appliance.sources.store import LICENCE_ENDING, Store
from appliance.sources.store_contents import beside, check, collect, contents, total, users

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.sources.station import Station

DAY = 86_400
SMALL, BIG, OTHER = b"small", b"big" * 1000, b"other" * 10


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def lock_of(*files: bytes) -> Lock:
    artefacts = tuple(
        Artefact(
            path=f"file-{number}",
            name="file",
            version="1",
            size=len(data),
            sha256=digest(data),
            licence="CC0-1.0",
            origin={"kind": "file"},
        )
        for number, data in enumerate(files)
    )
    return Lock(
        format=1,
        definition="0" * 64,
        product="demo",
        version="1.0.0",
        sequence=1,
        created="2026-01-31T12:00:00Z",
        target=Target(distribution="debian", suite="trixie", architecture="amd64", python="3.13"),
        inference=Inference(engine="e", model="m", file="file-0", name="demo"),
        components={"m": LockedComponent(kind="files", artefacts=artefacts)},
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three files, all needed ten days ago."""
    store = Store(tmp_path / "store")
    for data in (SMALL, BIG, OTHER):
        store.add_bytes(data)
        age(store.path(digest(data)), 10)
    return store


def age(path: Path, days: float) -> None:
    os.utime(path, (time.time() - days * DAY,) * 2)


def held(store: Store) -> set[str]:
    return {entry.name for entry in contents(store, {})}


def gc(store: Store, *locks: Lock, days: float = 0, dry_run: bool = False) -> list[str]:
    needed_by = users({f"lock-{number}": lock for number, lock in enumerate(locks)})
    removed = collect(store, needed_by, before=time.time() - days * DAY, dry_run=dry_run)
    return sorted(entry.name for entry in removed)


def test_files_are_listed_with_size_age_and_who_needs_them(store: Store) -> None:
    listed = contents(store, users({"one": lock_of(BIG, BIG, SMALL), "two": lock_of(BIG)}))
    assert [(entry.name, entry.size, entry.users) for entry in listed] == [
        (digest(BIG), 3000, ("one", "two")),
        (digest(OTHER), 50, ()),
        (digest(SMALL), 5, ("one",)),
    ]
    assert all(9.9 * DAY < time.time() - entry.needed < 10.1 * DAY for entry in listed)
    assert total(listed) == 3055


def test_what_no_lock_names_is_removed(store: Store) -> None:
    assert gc(store, lock_of(BIG), lock_of(SMALL)) == [digest(OTHER)]
    assert held(store) == {digest(BIG), digest(SMALL)}
    assert store.path(digest(BIG)).read_bytes() == BIG


def test_what_is_young_stays(store: Store) -> None:
    age(store.path(digest(OTHER)), 3)
    assert gc(store, lock_of(BIG), days=7) == [digest(SMALL)]


def test_a_dry_run_names_the_same_and_removes_nothing(store: Store) -> None:
    named = gc(store, lock_of(BIG), dry_run=True)
    assert named == sorted([digest(OTHER), digest(SMALL)])
    assert len(held(store)) == 3
    assert gc(store, lock_of(BIG)) == named


def test_a_file_that_a_build_needs_again_is_young_again(
    store: Store, new_station: Callable[..., Station]
) -> None:
    fetch_locked(lock_of(BIG), new_station("store"))
    assert gc(store, days=7) == sorted([digest(OTHER), digest(SMALL)])


def test_within_the_hour_nothing_is_written_to_the_store(
    store: Store, new_station: Callable[..., Station]
) -> None:
    """Of 10,000 files, telling each that it is needed takes longer than looking at them."""
    path = store.path(digest(BIG))
    recently = time.time() - 1800
    os.utime(path, (recently, recently))
    fetch_locked(lock_of(BIG), new_station("store"))
    assert path.stat().st_mtime == pytest.approx(recently, abs=1)


def test_where_nothing_is_missing_no_source_is_even_imported(
    store: Store, new_station: Callable[..., Station], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They bring libraries that take longer to start than many a build."""

    def never(*_: object) -> None:
        pytest.fail("a source was made")

    monkeypatch.setattr("appliance.sources.fetching.source", never)
    fetch_locked(lock_of(BIG), new_station("store"))
    store.path(digest(BIG)).unlink()
    with pytest.raises(pytest.fail.Exception, match="a source was made"):
        fetch_locked(lock_of(BIG), new_station("store"))


def test_foreign_files_are_neither_listed_nor_removed(store: Store) -> None:
    (store.folder / "objects" / "notes.txt").write_text("mine")
    age(store.folder / "objects" / "notes.txt", 100)
    gc(store)
    assert (store.folder / "objects" / "notes.txt").exists()
    assert held(store) == set()


def test_what_interrupted_work_left_goes_when_it_is_old_or_nobody_can_go_on_with_it(store: Store) -> None:
    partial = store.folder / "partial"
    wanted, old, young = digest(b"wanted"), digest(b"old"), digest(b"young")
    for name, days in ((wanted, 30), (old, 30), (young, 1)):
        (partial / name).write_bytes(b"half")
        age(partial / name, days)
    (partial / "scratch-1").mkdir()
    (partial / "scratch-1" / "file").write_bytes(b"x" * 100)
    names = {entry.name: entry.size for entry in beside(store, {})}
    assert names["scratch"] == 100
    assert len(names) == 4
    lock = lock_of(b"wanted", SMALL, BIG, OTHER)
    assert gc(store, lock, days=7) == sorted([f"partial {old}", "scratch"])
    assert {path.name for path in partial.iterdir()} == {wanted, young}


def test_what_apt_keeps_is_counted_and_goes_as_a_whole_when_it_is_old(store: Store) -> None:
    """Its package lists are larger than many a bundle."""
    for root, days in (("trixie-amd64-1", 30), ("bookworm-amd64-2", 1)):
        folder = store.folder / "apt" / root
        (folder / "state" / "lists").mkdir(parents=True)
        for name, size, file_days in (("status", 0, days), ("state/lists/Packages", 5000, 100)):
            (folder / name).write_bytes(b"x" * size)
            age(folder / name, file_days)
    assert {entry.name: entry.size for entry in beside(store, {})} == {
        "apt's lists and downloads, bookworm-amd64-2": 5000,
        "apt's lists and downloads, trixie-amd64-1": 5000,
    }
    lock = lock_of(SMALL, BIG, OTHER)
    assert gc(store, lock, days=7) == ["apt's lists and downloads, trixie-amd64-1"]
    assert [path.name for path in (store.folder / "apt").iterdir()] == ["bookworm-amd64-2"]
    assert gc(store, lock, days=0.5) == ["apt's lists and downloads, bookworm-amd64-2"]
    assert not (store.folder / "apt").exists()


def test_digests_of_slices_and_blocks_go_with_their_file(store: Store) -> None:
    """They are counted, stay as long as the file does, and go with it; without it they are of no use."""
    long, gone = bytes(5 << 20), digest(b"gone")
    store.add_bytes(long)
    for path in (store.path(digest(long)), store.path(digest(long)).with_name(f"{digest(long)}.digests")):
        age(path, 30)
    store.path(gone).parent.mkdir(exist_ok=True)
    store.keep_known(gone, b"x" * 100)
    names = {entry.name: entry for entry in beside(store, users({"one": lock_of(long)}))}
    assert names[f"digests {gone}"].size == 100
    assert names[f"digests {digest(long)}"].users == ("one",)
    assert f"{digest(long)}.digests" not in held(store)
    assert gc(store, lock_of(long, SMALL, BIG, OTHER, b"gone"), days=7) == [f"digests {gone}"]
    assert store.known(digest(long))
    age(store.path(digest(long)), 3)  # a build needed the file, and nobody touched what is beside it
    assert gc(store, lock_of(SMALL, BIG, OTHER), days=7) == []
    assert gc(store, lock_of(SMALL, BIG, OTHER)) == sorted([digest(long), f"digests {digest(long)}"])
    assert store.known(digest(long)) is None


def test_licences_go_with_their_package(store: Store) -> None:
    gone = digest(b"gone")
    store.path(gone).parent.mkdir(exist_ok=True)
    for sha256 in (digest(SMALL), digest(BIG), gone):
        store.keep_known(sha256, b"MIT", LICENCE_ENDING)
    names = {entry.name: entry.users for entry in beside(store, users({"one": lock_of(SMALL)}))}
    assert names == {
        f"licence {digest(SMALL)}": ("one",),
        f"licence {digest(BIG)}": (),
        f"licence {gone}": (),
    }
    assert gc(store, lock_of(SMALL, OTHER)) == sorted(
        [digest(BIG), f"licence {digest(BIG)}", f"licence {gone}"]
    )
    assert store.known(digest(SMALL), LICENCE_ENDING) == b"MIT"
    assert store.known(digest(BIG), LICENCE_ENDING) is None


def test_no_empty_folders_are_left(store: Store) -> None:
    gc(store, dry_run=True)
    gc(store, lock_of(BIG))
    assert [path.name for path in (store.folder / "objects").iterdir()] == [digest(BIG)[:2]]
    assert store.add_bytes(SMALL) == (digest(SMALL), 5)


def test_a_partial_file_that_a_fetch_holds_is_left_alone(store: Store) -> None:
    data = b"wanted"
    with store.fetch(digest(data), len(data), "x") as partial:
        assert partial
        age(store.folder / "partial" / digest(data), 30)
        assert digest(data) not in "".join(gc(store))
        partial.write(data)
    assert store.holds(digest(data), len(data))


def test_a_store_in_use_is_not_tidied(store: Store) -> None:
    with store.in_use(), store.in_use(), pytest.raises(InProgress, match="is in use") as caught:
        gc(store)
    assert caught.value.exit_code == 5
    assert len(held(store)) == 3
    assert len(gc(store)) == 3


def test_a_build_waits_until_tidying_up_is_over(store: Store) -> None:
    waiting, entered = threading.Event(), threading.Event()

    def build() -> None:
        waiting.set()
        with Store(store.folder).in_use():
            entered.set()

    thread = threading.Thread(target=build)
    with store.alone():
        thread.start()
        waiting.wait()
        assert not entered.is_set()
    thread.join(30)
    assert entered.is_set()


def test_the_lock_on_the_store_ends_with_its_process(store: Store) -> None:
    script = f"""
import pathlib, time
from appliance.sources.store import LICENCE_ENDING, Store
with Store(pathlib.Path({str(store.folder)!r})).in_use():
    print("ready", flush=True); time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(InProgress):
            gc(store)
        process.kill()
    assert len(gc(store)) == 3


def test_a_check_reads_everything_and_removes_what_has_changed(store: Store) -> None:
    assert check(store, Silent()) == 3
    path = store.path(digest(BIG))
    path.chmod(0o644)
    path.write_bytes(BIG[:-1] + b"!")
    with pytest.raises(DigestMismatch, match="had changed; they were removed") as caught:
        check(store, Silent())
    assert caught.value.found == digest(BIG)
    assert held(store) == {digest(SMALL), digest(OTHER)}
    assert check(store, Silent()) == 2


# --- the commands -------------------------------------------------------------------------------


@pytest.fixture
def run(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """The program as called; its exit code and standard output."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("APPLIANCE_STORE", str(store.folder))

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["appliance", "store", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            program.main()
        return int(ended.value.code or 0), capsys.readouterr().out

    return call


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "demo.lock.json"
    path.write_text(lock_text(lock_of(BIG)))
    return path


def test_the_list_as_text_and_as_json(
    run: Callable[..., tuple[int, str]], lock: Path, store: Store
) -> None:
    (store.folder / "partial" / digest(b"x")).write_bytes(b"half")
    code, text = run("list", "--lock", lock)
    assert code == 0
    assert text.splitlines()[0] == f"{digest(BIG)}            3,000     10d  {lock}  m/file-0"
    assert text.splitlines()[1] == f"{digest(OTHER)}               50     10d  -"
    assert text.splitlines()[-3:] == [
        f"partial {digest(b'x')}                4      0s  -",
        f"{store.folder}: 3 files, 3,055 bytes",
        "beside them 4 bytes; together 3,059 bytes",
    ]
    values = json.loads(run("list", "--json", "--lock", lock)[1])
    assert values["files"][0] == {
        "name": digest(BIG),
        "size": 3000,
        "age": pytest.approx(10 * DAY, abs=60),
        "users": [str(lock)],
        "called": "m/file-0",
    }
    assert values["beside"][0]["name"] == f"partial {digest(b'x')}"
    assert values["together"] == 3059


def test_tidying_up_from_the_command_line(
    run: Callable[..., tuple[int, str]], lock: Path, store: Store
) -> None:
    code, text = run("gc", "--lock", lock, "--dry-run", "--json")
    planned = json.loads(text)
    assert (code, planned["dry_run"], planned["size"]) == (0, True, 55)
    assert len(held(store)) == 3
    age(store.path(digest(SMALL)), 6)
    code, text = run("gc", "--lock", lock)  # older than 7 days by default
    assert text.splitlines()[-1] == f"{store.folder}: 1 removed, 50 bytes"
    assert held(store) == {digest(BIG), digest(SMALL)}
    assert run("gc", "--older-than", "0")[0] == 0
    assert held(store) == set()


def test_checking_from_the_command_line(run: Callable[..., tuple[int, str]], store: Store) -> None:
    assert json.loads(run("check", "--json")[1]) == {"store": str(store.folder), "files": 3}
    path = store.path(digest(BIG))
    path.chmod(0o644)
    path.write_bytes(b"!")
    code, text = run("check", "--json")
    assert (code, json.loads(text)["error"]) == (4, "DigestMismatch")


WRONG = {
    "nothing to keep is said": (["gc"], 2, "Usage"),
    "an age that is none": (["gc", "--older-than", "a week"], 2, "Usage"),
    "a lock that is not there": (["list", "--lock", "nothing.lock.json"], 3, "LockInvalid"),
    "a definition that is not there": (["gc", "--lock", "nothing.yaml"], 3, "DefinitionInvalid"),
    "no store": (["gc", "--older-than", "0", "--store", "nowhere"], 3, "SettingsInvalid"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_and_nothing_is_removed(
    run: Callable[..., tuple[int, str]],
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    case: str,
) -> None:
    arguments, code, error = WRONG[case]
    monkeypatch.chdir(tmp_path)
    got, text = run(*arguments, "--json")
    assert (got, json.loads(text)["error"]) == (code, error)
    assert len(held(store)) == 3
    assert not (tmp_path / "nowhere").exists()


def test_a_damaged_lock_removes_nothing(
    run: Callable[..., tuple[int, str]], store: Store, lock: Path
) -> None:
    lock.write_text("{}")
    assert run("gc", "--lock", lock, "--older-than", "0")[0] == 3
    assert len(held(store)) == 3


def test_a_store_in_use_from_the_command_line(run: Callable[..., tuple[int, str]], store: Store) -> None:
    with store.in_use():
        code, text = run("gc", "--older-than", "0", "--json")
    assert (code, json.loads(text)["error"]) == (5, "InProgress")
