"""Components that need no network: files beside the definition, and the generated model."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from appliance.definition.components import Files, PlainFile, TinyGguf
from appliance.errors import DefinitionInvalid, DigestMismatch, Location, LockInvalid, PackageMissing
from appliance.progress import Silent
from appliance.sources.plain_files import PlainFiles
from appliance.sources.stopping import Stopped
from appliance.sources.tiny_gguf import generate
from appliance.sources.tiny_model import TinyModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.definition.document import Loc
    from appliance.definition.lock import Artefact
    from appliance.definition.names import Target
    from appliance.sources.station import Station

NOTICE = b"notice\n"
DIGEST = hashlib.sha256(NOTICE).hexdigest()


def where(loc: Loc) -> Location:
    return Location("demo.yaml", 5, len(loc))


def files(sha256: str = DIGEST, size: int | None = None) -> Files:
    file = PlainFile(path="site/notice.txt", sha256=sha256, size=size, licence="proprietary")
    return Files(kind="files", files=(file,))


@pytest.fixture
def station(new_station: Callable[..., Station]) -> Station:
    made = new_station()
    (made.folder / "site").mkdir()
    (made.folder / "site" / "notice.txt").write_bytes(NOTICE)
    return made


def taken(source: PlainFiles, spec: Files) -> list[Artefact]:
    artefacts = source.resolve(spec, where)
    source.fetch(artefacts)
    return source.describe(artefacts)


def test_a_file_is_taken_as_the_definition_names_it(target: Target, station: Station) -> None:
    (artefact,) = taken(PlainFiles(target, station), files())
    assert (artefact.path, artefact.size, artefact.sha256) == ("site/notice.txt", 7, DIGEST)
    assert (artefact.licence, artefact.origin) == ("proprietary", {"kind": "file"})
    assert station.store.path(DIGEST).read_bytes() == NOTICE


def test_another_file_than_the_definition_names_is_refused(target: Target, station: Station) -> None:
    with pytest.raises(DigestMismatch) as caught:
        taken(PlainFiles(target, station), files("0" * 64))
    assert caught.value.exit_code == 4
    assert str(caught.value.where) == "demo.yaml:5:2"
    assert "holes" not in str(caught.value.hint)
    assert not station.store.path("0" * 64).exists()


def test_a_file_of_another_size_is_refused_before_it_is_read(target: Target, station: Station) -> None:
    with pytest.raises(DigestMismatch, match="not the file the definition names") as caught:
        PlainFiles(target, station).resolve(files(size=8), where)
    assert (caught.value.found, caught.value.wanted) == ("7 bytes", "8 bytes")
    assert str(caught.value.where) == "demo.yaml:5:2"
    assert taken(PlainFiles(target, station), files(size=7))


def test_a_file_that_is_not_there(target: Target, station: Station) -> None:
    (station.folder / "site" / "notice.txt").unlink()
    with pytest.raises(PackageMissing) as caught:
        PlainFiles(target, station).resolve(files(), where)
    assert str(caught.value.where) == "demo.yaml:5:2"


@pytest.mark.parametrize("now", [b"Notice\n", b"notice and more\n"])
def test_a_file_changed_since_the_lock_is_refused(
    target: Target, station: Station, new_station: Callable[..., Station], now: bytes
) -> None:
    artefacts = taken(PlainFiles(target, station), files())
    (station.folder / "site" / "notice.txt").write_bytes(now)
    cold = PlainFiles(target, new_station("cold"))
    with pytest.raises(DigestMismatch) as caught:
        cold.fetch(artefacts)
    if len(now) != len(NOTICE):  # said before gigabytes are read
        assert caught.value.found == f"{len(now)} bytes"
    assert cold.missing(artefacts) == artefacts
    PlainFiles(target, station).fetch(artefacts)  # with the file in the store, nothing is read


class Watched(Silent):
    """Progress that does something once so many bytes came."""

    def __init__(self, act: Callable[[], None], after: int) -> None:
        self.act, self.after, self.pieces = act, after, [0]

    def advance(self, count: int) -> None:
        self.pieces.append(count)
        if sum(self.pieces) >= self.after > 0:
            self.after = 0
            self.act()


@pytest.fixture
def big(station: Station) -> Files:
    """8 MiB of which all but the ends are a hole."""
    path = station.folder / "big.bin"
    with path.open("wb") as file:
        file.write(b"begin")
        file.truncate((8 << 20) - 3)
        file.seek(0, 2)
        file.write(b"end")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Files(kind="files", files=(PlainFile(path="big.bin", sha256=digest, licence="proprietary"),))


def watch(station: Station, act: Callable[[], None] = lambda: None, after: int = 0) -> Watched:
    watched = Watched(act, after)
    object.__setattr__(station, "progress", watched)
    return watched


def test_a_big_file_is_copied_by_pieces_with_progress(target: Target, station: Station, big: Files) -> None:
    watched = watch(station)
    (artefact,) = taken(PlainFiles(target, station), big)
    assert artefact.size == 8 << 20
    assert watched.pieces == [0, 0, *[1 << 20] * 8]


def test_a_copy_that_was_given_up_goes_on(target: Target, station: Station, big: Files) -> None:
    watch(station, station.stop.set, after=3 << 20)
    with pytest.raises(Stopped):
        taken(PlainFiles(target, station), big)
    assert station.store.fetched(big.files[0].sha256) == 3 << 20
    station.stop.clear()
    watched = watch(station)
    assert taken(PlainFiles(target, station), big)
    assert watched.pieces == [0, 3 << 20, *[1 << 20] * 5]


def test_a_file_that_changes_while_it_is_read_is_noticed(
    target: Target, station: Station, big: Files
) -> None:
    def change() -> None:
        with (station.folder / "big.bin").open("r+b") as file:
            file.write(b"BEGIN")

    watch(station, change, after=3 << 20)
    with pytest.raises(DigestMismatch, match="changed while it was read") as caught:
        taken(PlainFiles(target, station), big)
    assert str(caught.value.where) == "demo.yaml:5:2"


def test_a_sparse_file_that_is_right_is_right(target: Target, station: Station, big: Files) -> None:
    assert taken(PlainFiles(target, station), big)


def test_a_sparse_file_that_is_wrong_may_be_an_unfinished_download(
    target: Target, station: Station, big: Files
) -> None:
    wrong = big.model_copy(update={"files": (big.files[0].model_copy(update={"sha256": "0" * 64}),)})
    with pytest.raises(DigestMismatch) as caught:
        taken(PlainFiles(target, station), wrong)
    assert "are holes" in (caught.value.hint or "")


def model(sentence: str = "An answer.") -> TinyGguf:
    return TinyGguf(kind="tiny-gguf", sentence=sentence, licence="CC0-1.0")


def test_the_model_is_made_and_made_again_from_the_lock_alone(
    target: Target, station: Station, new_station: Callable[..., Station]
) -> None:
    artefacts = TinyModel(target, station).resolve(model(), where)
    assert [entry.path for entry in artefacts] == ["tiny.gguf"]
    assert artefacts[0].origin["sentence"] == "An answer."
    assert station.store.path(artefacts[0].sha256).read_bytes() == generate("An answer.")
    again = TinyModel(target, new_station("cold"))
    again.fetch(artefacts)
    assert again.missing(artefacts) == []


def test_a_sentence_no_model_can_say_is_refused_at_its_place(target: Target, station: Station) -> None:
    with pytest.raises(DefinitionInvalid) as caught:
        TinyModel(target, station).resolve(model(" space before"), where)
    assert str(caught.value.where) == "demo.yaml:5:1"


def test_a_lock_of_another_generator_is_refused(
    target: Target, station: Station, new_station: Callable[..., Station]
) -> None:
    (artefact,) = TinyModel(target, station).resolve(model(), where)
    other = artefact.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(LockInvalid, match="cannot be made as it was locked"):
        TinyModel(target, new_station("cold")).fetch([other])
