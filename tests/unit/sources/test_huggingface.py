"""Model repositories: pinned to a commit, compared with the hub's digests, and nothing that runs."""

from __future__ import annotations

import hashlib
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _detect_agent

from appliance.definition.components import HuggingFace
from appliance.definition.lock import Artefact
from appliance.errors import (
    AccessDenied,
    ApplianceError,
    DefinitionInvalid,
    DigestMismatch,
    FormatRefused,
    Location,
    PackageMissing,
    SourceUnreachable,
)
from appliance.sources.huggingface import HuggingFaceRepository
from appliance.sources.station import HuggingFaceSettings, Settings
from appliance.sources.stopping import Stopped

from .hub_server import COMMIT, HubServer, Repository, git_sha1, safetensors
from .loopback import Asked, Loopback, Reply, Silence, cut, interrupt, sends, serving, status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from appliance.definition.document import Loc
    from appliance.definition.names import Target
    from appliance.sources.station import Station

NAME = "example-org/Example-7B"
WEIGHTS = safetensors(3_000_000)
CONFIG = b'{"architectures": ["Example"]}'
MIB = 1 << 20


def where(loc: Loc) -> Location:
    return Location("demo.yaml", 7, len(loc))


def spec(**changes: Any) -> HuggingFace:
    values = {"kind": "huggingface", "repository": NAME, "revision": "main", **changes}
    return HuggingFace.model_validate(values)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one repository."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")
    with serving(Loopback()) as web, serving(Loopback()) as storage:
        server = HubServer(web, storage)
        files = {"config.json": CONFIG, "model.safetensors": WEIGHTS, ".gitattributes": b"*.x lfs\n"}
        server.repositories[NAME] = Repository({**files, "LICENSE": b"Apache License\n"})
        yield server


@pytest.fixture
def new_source(
    hub: HubServer, new_station: Callable[..., Station], target: Target
) -> Callable[..., HuggingFaceRepository]:
    settings = Settings(huggingface=HuggingFaceSettings(endpoint=hub.web.address))
    return lambda store="store": HuggingFaceRepository(target, new_station(store, settings))


@pytest.fixture
def source(new_source: Callable[..., HuggingFaceRepository]) -> HuggingFaceRepository:
    return new_source()


def locked(source: HuggingFaceRepository, **changes: Any) -> list[Artefact]:
    artefacts = source.resolve(spec(**changes), where)
    source.fetch(artefacts)
    return source.describe(artefacts)


def test_a_repository_with_sizes_digests_licence_and_commit(source: HuggingFaceRepository) -> None:
    licence, config, weights = locked(source)
    assert [entry.path for entry in (licence, config, weights)] == [
        "LICENSE",
        "config.json",
        "model.safetensors",
    ]
    assert weights == Artefact(
        path="model.safetensors",
        name=NAME,
        version=COMMIT,
        size=len(WEIGHTS),
        sha256=hashlib.sha256(WEIGHTS).hexdigest(),
        licence="Apache-2.0",
        origin={"kind": "huggingface", "repository": NAME, "revision": COMMIT, "upstream": "sha256"},
    )
    assert config.sha256 == hashlib.sha256(CONFIG).hexdigest()
    assert config.origin["upstream"] == f"git-blob-sha1:{git_sha1(CONFIG)}"
    assert source.missing([licence, config, weights]) == []


def test_weights_are_not_fetched_to_be_locked_by_digest(
    hub: HubServer, source: HuggingFaceRepository
) -> None:
    """The hub publishes their SHA-256; small files are measured."""
    source.resolve(spec(), where)
    assert hub.storage.asked == []


def test_no_address_is_in_what_is_locked(source: HuggingFaceRepository) -> None:
    assert not [entry for entry in locked(source) if "127.0.0.1" in entry.model_dump_json()]


def test_nobody_else_is_asked_and_nothing_is_told(
    hub: HubServer, source: HuggingFaceRepository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By itself the library would ask the public endpoint for a list of programs to look for here."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.web.address)
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "list.json"))
    monkeypatch.setattr(_detect_agent, "_registry", None)  # it asks once in a process
    locked(source)
    api = [asked for asked in hub.web.asked if asked.path.startswith("/api")]
    assert [asked.path for asked in api] == [f"/api/models/{NAME}/revision/main"]
    assert "agent/" not in api[0].headers["user-agent"]


def test_a_build_needs_no_description_and_gets_the_same_bytes(
    hub: HubServer, source: HuggingFaceRepository, new_source: Callable[..., HuggingFaceRepository]
) -> None:
    artefacts = locked(source)
    hub.web.asked.clear()
    cold = new_source("cold")
    hub.repositories[NAME].refs["main"] = "f" * 40  # the branch moves on; the lock does not
    cold.fetch(artefacts)
    assert cold.missing(artefacts) == []
    assert not [asked for asked in hub.web.asked if asked.path.startswith("/api")]
    hub.web.asked.clear()
    cold.fetch(artefacts)
    assert hub.web.asked == []


def test_weights_go_on_where_the_connection_broke_from_a_fresh_address(
    hub: HubServer, source: HuggingFaceRepository
) -> None:
    """Addresses of storage are signed and run out: each try begins at the hub again."""
    artefacts = source.resolve(spec(), where)
    blob = f"/blobs/{hashlib.sha256(WEIGHTS).hexdigest()}"
    hub.storage.faults[blob].extend([cut(MIB), cut(MIB)])
    source.fetch(artefacts)
    assert hub.storage.ranges(blob) == [None, f"bytes={MIB}-", f"bytes={2 * MIB}-"]
    assert len(hub.web.ranges(f"/{NAME}/resolve/{COMMIT}/model.safetensors")) == 3


def test_a_hub_that_is_busy_at_first_is_asked_again(hub: HubServer, source: HuggingFaceRepository) -> None:
    page = f"/api/models/{NAME}/revision/main"
    hub.web.faults[page].extend([status(503), status(429, Retry_After="3"), cut(10)])
    hub.web.faults[f"/{NAME}/resolve/{COMMIT}/config.json"].extend([status(500), cut(5)])
    assert len(locked(source)) == 3
    assert 3.0 in source.station.stop.pauses  # type: ignore[attr-defined]  # conftest.Unhurried


# --- which files --------------------------------------------------------------------------------


def test_patterns_choose_files(hub: HubServer, source: HuggingFaceRepository) -> None:
    hub.repositories[NAME].files["original/params.json"] = b"{}"

    def paths(**changes: Any) -> list[str]:
        return [entry.path for entry in source.resolve(spec(**changes), where)]

    assert paths() == ["LICENSE", "config.json", "model.safetensors", "original/params.json"]
    assert paths(exclude=["original/*"]) == ["LICENSE", "config.json", "model.safetensors"]
    assert paths(include=["*.json"]) == ["config.json", "original/params.json"]
    assert paths(include=["*.json"], exclude=["orig*"]) == ["config.json"]


def test_a_pattern_that_matches_nothing_is_a_slip(source: HuggingFaceRepository) -> None:
    with pytest.raises(DefinitionInvalid, match=r"\*\.safetensor matches no file") as caught:
        source.resolve(spec(include=["*.json", "*.safetensor"]), where)
    assert str(caught.value.where) == "demo.yaml:7:2"


def test_a_repository_of_which_nothing_is_left(source: HuggingFaceRepository) -> None:
    with pytest.raises(DefinitionInvalid, match="nothing of"):
        source.resolve(spec(exclude=["*"]), where)


@pytest.mark.parametrize("path", ["a b.json", "aux.json", "GIT~1", "-x.json", "ü.json", "a/../x.json"])
def test_a_name_that_no_bundle_can_hold_is_said_before_anything_is_fetched(
    hub: HubServer, source: HuggingFaceRepository, path: str
) -> None:
    hub.repositories[NAME].files[path] = b"{}"
    with pytest.raises(DefinitionInvalid, match="the path") as caught:
        source.resolve(spec(), where)
    assert caught.value.hint == "leave it out with exclude"
    assert len(hub.web.asked) == 1
    assert source.resolve(spec(include=["config.json"]), where)


REFUSED = {
    "pytorch_model.bin": "pickle",
    "consolidated.00.pth": "pickle",
    "model.PT": "pickle",
    "optimizer.pkl": "pickle",
    "model.ckpt": "pickle",
    "flax_model.msgpack": "pickle",
    "tf_model.h5": "pickle",
    "embeddings.npz": "pickle",
    "model.t7": "pickle",
    "model.keras": "pickle",
    "modeling_example.py": "code",
    "lib/kernel.so": "code",
    "install.sh": "code",
    "model.Q4_K_M.gguf": "gguf",
    "model.onnx": "other",
    "model": "other",
    "README.tar.gz": "other",
    "LICENSE.zip": "other",
}


@pytest.mark.parametrize("path", REFUSED)
def test_what_may_run_is_refused_by_default_and_taken_when_it_is_allowed(
    hub: HubServer, source: HuggingFaceRepository, path: str
) -> None:
    hub.repositories[NAME].files[path] = b"whatever"
    kind = REFUSED[path]
    with pytest.raises(FormatRefused) as caught:
        source.resolve(spec(), where)
    assert caught.value.exit_code == 3
    assert f"{NAME}: {path} " in caught.value.message
    assert f"allow: [{kind}]" in caught.value.hint
    assert len(hub.web.asked) == 1
    others = sorted({"pickle", "code", "gguf", "other"} - {kind})
    with pytest.raises(FormatRefused):
        source.resolve(spec(allow=others), where)
    assert path in [entry.path for entry in locked(source, allow=[kind])]
    assert path not in [entry.path for entry in source.resolve(spec(exclude=[path]), where)]


def test_all_files_of_a_kind_are_named_at_once(hub: HubServer, source: HuggingFaceRepository) -> None:
    hub.repositories[NAME].files.update({f"part-{number}.bin": b"x" for number in range(7)})
    with pytest.raises(FormatRefused) as caught:
        source.resolve(spec(), where)
    assert caught.value.found is not None
    assert caught.value.found.startswith("part-0.bin, part-1.bin")
    assert caught.value.found.endswith("and 2 others")


DECEIVED = {
    "a pickle called text": ("vocab.txt", pickle.dumps({"a": 1}, protocol=4)),
    "weights that are a pickle": ("more.safetensors", pickle.dumps({"a": b"1" * 100}, protocol=2)),
}


@pytest.mark.parametrize("case", DECEIVED)
def test_a_file_that_is_not_what_its_name_says_is_refused(
    hub: HubServer, source: HuggingFaceRepository, case: str
) -> None:
    path, data = DECEIVED[case]
    hub.repositories[NAME].files[path] = data
    with pytest.raises(FormatRefused, match=f"{NAME}: {path} "):
        locked(source)


# --- licences -----------------------------------------------------------------------------------

LICENCES: dict[str, tuple[dict[str, Any], str]] = {
    "SPDX": ({"license": "mit"}, "MIT"),
    "several": ({"license": ["mit", "apache-2.0"]}, "MIT AND Apache-2.0"),
    "the hub's own short name": ({"license": "llama3.1"}, "llama3.1"),
    "another, by name": ({"license": "other", "license_name": "example-community"}, "example-community"),
    "another, without a name": ({"license": "other"}, "other"),
    "none": ({}, "not stated"),
}


@pytest.mark.parametrize("case", LICENCES)
def test_the_licence_is_the_cards(hub: HubServer, source: HuggingFaceRepository, case: str) -> None:
    hub.repositories[NAME].card, wanted = LICENCES[case]
    assert {entry.licence for entry in source.resolve(spec(), where)} == {wanted}


def test_the_definition_may_say_the_licence(source: HuggingFaceRepository) -> None:
    assert {entry.licence for entry in source.resolve(spec(licence="LicenseRef-Ours"), where)} == {
        "LicenseRef-Ours"
    }


# --- what it does -------------------------------------------------------------------------------

SAID: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "task and architecture": (
        {"pipeline_tag": "text-generation", "config": {"architectures": ["LlamaForCausalLM"]}},
        {"task": "text-generation", "architectures": "LlamaForCausalLM"},
    ),
    "several architectures": (
        {"config": {"architectures": ["One", "Two"]}},
        {"architectures": "One, Two"},
    ),
    "nothing": ({"config": {"model_type": "llama"}}, {}),
    "no configuration": ({"config": None, "pipeline_tag": None}, {}),
    "a configuration that is none": ({"config": ["architectures"]}, {}),
    "no architectures": ({"config": {"architectures": []}}, {}),
    "what is no name": ({"pipeline_tag": "a\x1b[2Jb", "config": {"architectures": [{}]}}, {}),
    "a name without end": ({"pipeline_tag": "x" * 101}, {}),
    "names without end": ({"config": {"architectures": ["x"] * 99}}, {"architectures": ", ".join("x" * 8)}),
}


@pytest.mark.parametrize("case", SAID)
def test_what_the_hub_says_of_the_model_is_locked(
    hub: HubServer, source: HuggingFaceRepository, case: str
) -> None:
    hub.repositories[NAME].changes, wanted = SAID[case]
    for entry in source.resolve(spec(), where):
        said = {key: value for key, value in entry.origin.items() if key in {"task", "architectures"}}
        assert said == wanted


# --- who may read -------------------------------------------------------------------------------


@pytest.fixture
def gated(hub: HubServer) -> HubServer:
    hub.repositories[NAME].gated, hub.repositories[NAME].token = "manual", "hf_secret"
    return hub


def test_a_gated_repository_is_read_with_a_token_which_the_storage_never_sees(
    gated: HubServer, new_source: Callable[..., HuggingFaceRepository], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    artefacts = locked(new_source())
    assert {entry.origin["gated"] for entry in artefacts} == {"manual"}
    assert "hf_secret" not in "".join(entry.model_dump_json() for entry in artefacts)
    assert {asked.headers.get("authorization") for asked in gated.web.asked} == {"Bearer hf_secret"}
    assert [asked for asked in gated.storage.asked if "authorization" in asked.headers] == []


@pytest.mark.parametrize("token", [None, "hf_other"])
@pytest.mark.parametrize("described", [True, False])
def test_a_gated_repository_without_the_right_token(
    gated: HubServer,
    new_source: Callable[..., HuggingFaceRepository],
    monkeypatch: pytest.MonkeyPatch,
    *,
    token: str | None,
    described: bool,
) -> None:
    gated.repositories[NAME].described = described
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(AccessDenied, match="is gated: its owner wants consent") as caught:
        new_source().resolve(spec(), where)
    assert caught.value.exit_code == 6
    assert caught.value.found == ("the token that is set" if token else "no token")
    assert "hf_other" not in str(caught.value.as_dict())


def test_consent_withdrawn_between_lock_and_build(
    hub: HubServer, source: HuggingFaceRepository, new_source: Callable[..., HuggingFaceRepository]
) -> None:
    artefacts = locked(source)
    hub.repositories[NAME].token = "hf_secret"  # noqa: S105 - a word of this test
    with pytest.raises(AccessDenied, match="is gated"):
        new_source("cold").fetch(artefacts)


# --- what the hub answers -----------------------------------------------------------------------

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
