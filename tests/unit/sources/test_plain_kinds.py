"""Components that need no network: files beside the definition, and the generated model."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from appliance.definition.components import Files, PlainFile, TinyGguf
from appliance.errors import DefinitionInvalid, DigestMismatch, Location, LockInvalid, PackageMissing
from appliance.sources.plain_files import PlainFiles
from appliance.sources.tiny_gguf import generate
from appliance.sources.tiny_model import TinyModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.definition.document import Loc
    from appliance.definition.names import Target
    from appliance.sources.station import Station

NOTICE = b"notice\n"
DIGEST = hashlib.sha256(NOTICE).hexdigest()


def where(loc: Loc) -> Location:
    return Location("demo.yaml", 5, len(loc))


def files(sha256: str = DIGEST) -> Files:
    return Files(
        kind="files", files=(PlainFile(path="site/notice.txt", sha256=sha256, licence="proprietary"),)
    )


@pytest.fixture
def station(new_station: Callable[..., Station]) -> Station:
    made = new_station()
    (made.folder / "site").mkdir()
    (made.folder / "site" / "notice.txt").write_bytes(NOTICE)
    return made


def test_a_file_is_taken_as_the_definition_names_it(target: Target, station: Station) -> None:
    (artefact,) = PlainFiles(target, station).resolve(files(), where)
    assert (artefact.path, artefact.size, artefact.sha256) == ("site/notice.txt", 7, DIGEST)
    assert (artefact.licence, artefact.origin) == ("proprietary", {"kind": "file"})
    assert station.store.path(DIGEST).read_bytes() == NOTICE


def test_another_file_than_the_definition_names_is_refused(target: Target, station: Station) -> None:
    with pytest.raises(DigestMismatch) as caught:
        PlainFiles(target, station).resolve(files("0" * 64), where)
    assert caught.value.exit_code == 4
    assert str(caught.value.where) == "demo.yaml:5:2"
    assert not station.store.path("0" * 64).exists()


def test_a_file_that_is_not_there(target: Target, station: Station) -> None:
    (station.folder / "site" / "notice.txt").unlink()
    with pytest.raises(PackageMissing) as caught:
        PlainFiles(target, station).resolve(files(), where)
    assert str(caught.value.where) == "demo.yaml:5:2"


def test_a_file_changed_since_the_lock_is_refused(
    target: Target, station: Station, new_station: Callable[..., Station]
) -> None:
    artefacts = PlainFiles(target, station).resolve(files(), where)
    (station.folder / "site" / "notice.txt").write_bytes(b"Notice\n")
    cold = PlainFiles(target, new_station("cold"))
    with pytest.raises(DigestMismatch):
        cold.fetch(artefacts)
    assert cold.missing(artefacts) == artefacts
    PlainFiles(target, station).fetch(artefacts)  # with the file in the store, nothing is read


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
