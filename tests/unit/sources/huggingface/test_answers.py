"""What the hub may answer, each with its error."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import constants

from appliance.errors import (
    AccessDenied,
    ApplianceError,
    DigestMismatch,
    PackageMissing,
    SourceUnreachable,
)
from appliance.sources.huggingface import HuggingFaceRepository
from appliance.sources.station import HuggingFaceSettings, Settings
from appliance.sources.stopping import Stopped
from tests.unit.sources.hub_server import COMMIT, HubServer, git_sha1
from tests.unit.sources.huggingface.asking import CONFIG, NAME, WEIGHTS, locked, spec, where
from tests.unit.sources.loopback import Asked, Reply, Silence, interrupt, sends, status

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.definition.names import Target
    from appliance.sources.station import Station

ANSWERS: dict[str, tuple[Any, type[ApplianceError], str]] = {
    "404 for the repository": (
        status(404, X_Error_Code="RepoNotFound"),
        PackageMissing,
        "no such repository",
    ),
    "401 for a private or absent one": (status(401), AccessDenied, "HTTP status 401 with no token"),
    "403": (status(403), AccessDenied, "HTTP status 403"),
    "404 without a reason": (status(404), PackageMissing, "HTTP status 404"),
    "another status": (status(418), SourceUnreachable, "HTTP status 418"),
    "no JSON": (sends(b"<html>"), SourceUnreachable, "JSONDecodeError"),
    "another JSON": (sends(b"[1, 2]"), SourceUnreachable, "TypeError"),
    "nothing of a model": (sends(b"{}"), SourceUnreachable, "KeyError"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_every_answer_has_its_error(hub: HubServer, source: HuggingFaceRepository, case: str) -> None:
    fault, error, found = ANSWERS[case]
    hub.web.faults[f"/api/models/{NAME}/revision/main"].append(fault)
    with pytest.raises(error) as caught:
        source.resolve(spec(), where)
    assert type(caught.value) is error
    assert found in (caught.value.found or "")


def test_a_repository_or_revision_that_does_not_exist(source: HuggingFaceRepository) -> None:
    with pytest.raises(AccessDenied, match="does not give example-org/nothing") as denied:
        source.resolve(spec(repository="example-org/nothing"), where)
    assert "check the name" in (denied.value.hint or "")
    with pytest.raises(PackageMissing, match="does not have") as caught:
        source.resolve(spec(revision="v9"), where)
    assert caught.value.found == "no such revision"
    assert str(caught.value.where) == "demo.yaml:7:1"


SENSELESS: dict[str, dict[str, Any]] = {
    "no commit": {"sha": None},
    "a commit that is none": {"sha": "main"},
    "no files": {"siblings": None},
    "no size": {"siblings": [{"rfilename": "config.json", "blobId": "0" * 40}]},
    "no digest": {"siblings": [{"rfilename": "config.json", "size": 3}]},
    "a digest that is none": {
        "siblings": [{"rfilename": "x", "size": 3, "lfs": {"sha256": "x", "size": 3, "pointerSize": 1}}]
    },
    "a negative size": {"siblings": [{"rfilename": "config.json", "size": -1, "blobId": "0" * 40}]},
}


@pytest.mark.parametrize("case", SENSELESS)
def test_a_description_that_cannot_be_is_refused(
    hub: HubServer, source: HuggingFaceRepository, case: str
) -> None:
    hub.repositories[NAME].changes = SENSELESS[case]
    with pytest.raises(SourceUnreachable, match="does not answer as a hub does"):
        source.resolve(spec(), where)


def test_another_commit_than_the_one_asked_for(hub: HubServer, source: HuggingFaceRepository) -> None:
    hub.repositories[NAME].changes = {"sha": "f" * 40}
    with pytest.raises(DigestMismatch, match="another commit"):
        source.resolve(spec(revision=COMMIT), where)


def test_a_small_file_that_is_not_the_one_described(hub: HubServer, source: HuggingFaceRepository) -> None:
    path = f"/{NAME}/resolve/{COMMIT}/config.json"
    hub.web.faults[path].append(sends(CONFIG.replace(b"E", b"F")))
    with pytest.raises(DigestMismatch, match=r"config\.json is not the file the hub describes") as caught:
        source.resolve(spec(), where)
    assert caught.value.wanted == f"git-blob-sha1 {git_sha1(CONFIG)}"
    # What came of its neighbours meanwhile may stay: a later run begins with it.
    left = {path.name for path in (source.station.store.folder / "partial").iterdir()}
    assert not any(name.startswith("scratch-") for name in left)
    assert hashlib.sha256(CONFIG.replace(b"E", b"F")).hexdigest() not in left
    assert not source.station.store.holds(
        hashlib.sha256(CONFIG.replace(b"E", b"F")).hexdigest(), len(CONFIG)
    )


def test_weights_that_are_not_the_ones_described(hub: HubServer, source: HuggingFaceRepository) -> None:
    artefacts = source.resolve(spec(), where)
    blob = f"/blobs/{hashlib.sha256(WEIGHTS).hexdigest()}"
    hub.storage.files[blob] = WEIGHTS[:-1] + b"!"
    with pytest.raises(DigestMismatch, match=r"model\.safetensors is not the file that was locked"):
        source.fetch(artefacts)


GONE = {
    "the file": (lambda repository: repository.files.pop("model.safetensors"), "no such file"),
    "the commit": (lambda repository: setattr(repository, "commit", "e" * 40), "no such revision"),
}


@pytest.mark.parametrize("case", GONE)
def test_what_vanished_between_lock_and_build_is_named(
    hub: HubServer,
    source: HuggingFaceRepository,
    new_source: Callable[..., HuggingFaceRepository],
    case: str,
) -> None:
    artefacts = locked(source)
    change, found = GONE[case]
    change(hub.repositories[NAME])
    with pytest.raises(PackageMissing, match=f"of {NAME} at {COMMIT[:12]}") as caught:
        new_source("cold").fetch(artefacts)
    assert caught.value.found == found


@pytest.mark.usefixtures("hub")
def test_a_hub_that_is_not_there(new_station: Callable[..., Station], target: Target) -> None:
    settings = Settings(huggingface=HuggingFaceSettings(endpoint="http://127.0.0.1:9"))
    source = HuggingFaceRepository(target, new_station("store", settings))
    with pytest.raises(SourceUnreachable, match="the model hub does not answer") as caught:
        source.resolve(spec(), where)
    assert caught.value.found == "127.0.0.1: ConnectError"


def test_a_station_that_must_not_ask(
    source: HuggingFaceRepository, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceUnreachable, match="must not be asked"):
        source.resolve(spec(), where)
    assert hub.web.asked == []


def test_redirects_in_circles(hub: HubServer, source: HuggingFaceRepository) -> None:
    page = f"/api/models/{NAME}/revision/main"
    hub.web.pages = lambda _: Reply(302, {"Location": page})
    with pytest.raises(SourceUnreachable):
        source.resolve(spec(), where)


def test_a_hub_that_never_begins_to_answer_keeps_nobody_waiting(
    hub: HubServer, source: HuggingFaceRepository, silence: Silence
) -> None:
    """The description is asked for by huggingface_hub, which waits for a minute."""
    pages = hub.web.pages
    assert pages

    def mute(asked: Asked) -> Reply:
        silence()
        return pages(asked)

    hub.web.pages = mute
    interrupting = interrupt(source.station, silence.begun)
    with pytest.raises(Stopped):
        source.resolve(spec(), where)
    assert not silence.over.is_set()
    interrupting.join()
