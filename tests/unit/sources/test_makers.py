"""Models signed by their makers: checked before the weights are fetched, again from the bundle alone."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from appliance.cli.app import main
from tests.unit.trust.model_makers import IGNORED, Maker

from .hub_server import HubServer, Repository, safetensors
from .loopback import Loopback, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Holders

    from .conftest import Index

NAME = "example-org/Example-7B"
MODEL = {"config.json": b"{}", "LICENSE": b"Apache License\n", "model.safetensors": safetensors(2_000_000)}
MAKER = Maker()
DEFINITION = """\
format: 1
product: signed
version: "1.0.0"
sequence: 1
parity: 0
target: {distribution: debian, suite: trixie, architecture: amd64, python: "3.13"}
components:
  engine: {kind: python, requirements: [app]}
  model:
    kind: huggingface
    repository: example-org/Example-7B
    revision: main
    signature: {file: model.sig, key: keys/maker.pem}
inference: {engine: engine, model: model, file: model.safetensors, name: example}
"""
SIGNATURE = "    signature: {file: model.sig, key: keys/maker.pem}\n"


class Station:
    """A definition beside a key; the hub that this station asks; and the program."""

    def __init__(self, folder: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.hub = hub
        self.path = folder / "signed.yaml"
        self._capsys = capsys

    def define(self, old: str = "", new: str = "") -> None:
        assert old in DEFINITION
        self.path.write_text(DEFINITION.replace(old, new, 1))

    def publish(self, files: dict[str, bytes]) -> None:
        self.hub.repositories[NAME] = Repository(files)

    def run(self, *arguments: object) -> tuple[int, str, str]:
        sys.argv = ["appliance", *map(str, arguments)]
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        printed = self._capsys.readouterr()
        return int(caught.value.code or 0), printed.out, printed.err

    def lock(self) -> str:
        """Lock; what was said meanwhile."""
        code, _, err = self.run("lock", self.path)
        assert code == 0, err
        return err

    def refused(self) -> dict[str, Any]:
        """Lock, which must fail; the error."""
        code, out, _ = self.run("lock", self.path, "--json")
        assert code != 0
        return json.loads(out)

    @property
    def origin(self) -> dict[str, str]:
        """The locked origin of the signature."""
        locked = json.loads(self.path.with_name("signed.lock.json").read_text())
        (found,) = [
            each["origin"]
            for each in locked["components"]["model"]["artefacts"]
            if each["path"].endswith("model.sig")
        ]
        return found

    def bundle(self, holders: Holders) -> tuple[Path, Path]:
        """Build and sign; the bundle, and the root to verify it by."""
        roots = self.folder / "roots"
        if not roots.exists():
            assert not self.run(
                *("trust", "init", "--out", roots, "--solo", "--holder"),
                f"alice={holders.folder / 'alice.pub'}",
            )[0]
        out, root = self.folder / "bundle", roots / "root.1.json"
        code, _, err = self.run("build", self.path, "--out", out, "--root", root)
        assert code == 0, err
        assert self.run("sign", out, "--key", holders.key("alice"))[0] == 0
        return out, root


@pytest.fixture
def station(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Station]:
    index.add("app")
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("APPLIANCE_STORE", str(tmp_path / "store"))
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with serving(Loopback()) as web, serving(Loopback()) as storage:
        settings = tmp_path / "config" / "appliance" / "station.yaml"
        settings.parent.mkdir(parents=True)
        settings.write_text(f"huggingface: {{endpoint: '{web.address}'}}\n")
        folder = tmp_path / "site"
        (folder / "keys").mkdir(parents=True)
        (folder / "keys" / "maker.pem").write_bytes(MAKER.pem)
        made = Station(folder, HubServer(web, storage), capsys)
        made.define()
        made.publish({**MODEL, ".gitattributes": b"*.x lfs\n", "model.sig": MAKER.sign(MODEL)})
        yield made


def test_from_the_hub_to_the_far_side(station: Station, holders: Holders) -> None:
    said = station.lock()
    assert f"3 files are signed by key {MAKER.fingerprint}" in said
    origin = station.origin
    assert (origin["signature"], origin["signed_by"]) == ("key", MAKER.fingerprint)
    assert origin["kind"] == "huggingface"
    (station.folder / "keys" / "maker.pem").unlink()  # the lock has all that a build needs
    bundle, root = station.bundle(holders)
    assert sorted(path.name for path in (bundle / "payload/model").iterdir()) == sorted(
        [*MODEL, "model.sig"]
    )

    code, out, _ = station.run("verify", bundle, "-t", root, "--json")
    assert code == 0
    assert json.loads(out)["upstream"] == [
        {
            "file": "payload/model/model.sig",
            "component": "model",
            "method": "key",
            "checked": True,
            "unchecked_because": None,
            "signed_by": MAKER.fingerprint,
            "covered": 3,
            "uncovered": [],
            "not_carried": [],
        }
    ]
    _, out, _ = station.run("verify", bundle, "-t", root, "--explain")
    assert f"upstream     model/model.sig: 3 files are signed by key {MAKER.fingerprint}" in out
    assert "it counts for no threshold" in out
    _, out, _ = station.run("inspect", bundle)
    assert f"upstream     model/model.sig: 3 files are signed by key {MAKER.fingerprint}" in out
    assert MAKER.pem.decode().splitlines()[1] not in out  # the key itself is for programs


def test_nothing_but_the_signature_is_fetched_before_it_holds(station: Station) -> None:
    station.publish({**MODEL, "model.sig": MAKER.sign({**MODEL, "model.safetensors": b"others"})})
    error = station.refused()
    assert error["error"] == "UpstreamSignatureInvalid"
    assert error["exit_code"] == 4
    assert error["message"] == "model.sig: files are not the ones that the model's makers signed"
    assert error["found"] == "model.safetensors"
    assert error["where"].endswith("signed.yaml:13:23")
    assert station.hub.storage.asked == []


LEFT = {**MODEL, "original/weights.safetensors": b"the same in another shape"}


def test_files_that_the_definition_leaves_out_are_said_and_counted(
    station: Station, holders: Holders
) -> None:
    station.publish({**LEFT, "model.sig": MAKER.sign(LEFT)})
    station.define(SIGNATURE, SIGNATURE + "    exclude: [original/*]\n")
    assert "left out by the definition: original/weights.safetensors" in station.lock()
    assert station.origin["left_out"] == "1"
    bundle, root = station.bundle(holders)
    code, out, _ = station.run("verify", bundle, "-t", root)
    assert code == 0
    assert "signed but not carried: original/weights.safetensors" in out


def test_files_that_are_gone_from_the_hub_are_an_error(station: Station) -> None:
    station.publish({**MODEL, "model.sig": MAKER.sign(LEFT)})
    error = station.refused()
    assert error["error"] == "UpstreamSignatureInvalid"
    assert error["message"] == "model.sig: the model's makers signed files that are not there"
    assert error["found"] == "original/weights.safetensors"


def test_files_that_were_added_on_the_hub_are_an_error_unless_left_out(station: Station) -> None:
    station.publish({**MODEL, "added.json": b"{}", "model.sig": MAKER.sign(MODEL)})
    error = station.refused()
    assert error["message"] == "model.sig: files are there that the model's makers did not sign"
    assert error["found"] == "added.json"
    station.define(SIGNATURE, SIGNATURE + "    exclude: [added.json]\n")
    station.lock()


def test_files_that_its_makers_left_out_of_account_are_named(station: Station, holders: Holders) -> None:
    signed = MAKER.sign(MODEL, (*IGNORED, "README.md"))
    station.publish({**MODEL, "README.md": b"words", ".gitattributes": b"x", "model.sig": signed})
    station.define(SIGNATURE, SIGNATURE + '    include: ["*"]\n    allow: [other]\n')
    assert "not covered: .gitattributes, README.md" in station.lock()
    bundle, root = station.bundle(holders)
    code, out, _ = station.run("verify", bundle, "-t", root, "--json")
    assert code == 0
    assert json.loads(out)["upstream"][0]["uncovered"] == [".gitattributes", "README.md"]


def test_the_signature_is_taken_whatever_the_patterns_say(station: Station) -> None:
    station.define(SIGNATURE, SIGNATURE + '    include: ["*.safetensors"]\n    exclude: ["*.sig"]\n')
    station.lock()
    assert station.origin["left_out"] == "2"


def test_a_signature_nobody_named_needs_permission_as_before(station: Station) -> None:
    station.define(SIGNATURE, "")
    assert station.refused()["error"] == "FormatRefused"


def test_without_a_key_it_is_carried_and_called_unchecked(station: Station, holders: Holders) -> None:
    bundle = MAKER.bundle(b"")
    bundle["verificationMaterial"] = {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": [{}]}
    station.publish({**MODEL, "model.sig": json.dumps(bundle).encode()})
    assert station.refused()["message"] == "model.sig: the model was not signed by a key"
    station.define(", key: keys/maker.pem", "")
    assert "NOT CHECKED: signed with Sigstore" in station.lock()
    assert station.origin["signature"] == "sigstore"
    assert "signed_by" not in station.origin
    out, root = station.bundle(holders)
    code, text, _ = station.run("verify", out, "-t", root, "--explain")
    assert code == 0
    assert "NOT CHECKED: signed with Sigstore, without a key: needs an online trust root" in text
    _, text, _ = station.run("verify", out, "-t", root, "--json")
    assert json.loads(text)["upstream"][0]["checked"] is False


FILES = """\
  model:
    kind: files
    files:
      - {path: site/notice.txt, sha256: "NOTICE", licence: MIT}
      - {path: weights/a.safetensors, sha256: "A", licence: MIT}
      - {path: weights/model.sig, sha256: "SIG", licence: MIT}
    signature: {file: weights/model.sig, key: keys/maker.pem}
"""
HUB = DEFINITION[DEFINITION.index("  model:") : DEFINITION.index("inference")]


def plain(station: Station, signature: bytes) -> None:
    """A definition of plain files with this signature."""
    data = {
        "site/notice.txt": b"notice",
        "weights/a.safetensors": b"numbers",
        "weights/model.sig": signature,
    }
    for name, content in data.items():
        (station.folder / name).parent.mkdir(exist_ok=True)
        (station.folder / name).write_bytes(content)
    digests = [hashlib.sha256(content).hexdigest() for content in data.values()]
    text = FILES
    for word, digest in zip(("NOTICE", '"A"', "SIG"), digests, strict=True):
        text = text.replace(word, f'"{digest}"' if word == '"A"' else digest)
    station.define(HUB, text)
    station.path.write_text(station.path.read_text().replace("model.safetensors", "weights/a.safetensors"))


def test_plain_files_in_the_folder_of_their_signature(station: Station, holders: Holders) -> None:
    plain(station, MAKER.sign({"a.safetensors": b"numbers"}))
    assert "1 files are signed" in (said := station.lock())
    assert "not covered: site/notice.txt" in said
    bundle, root = station.bundle(holders)
    code, out, _ = station.run("verify", bundle, "-t", root)
    assert code == 0
    assert re.search(r"model/weights/model.sig: 1 files .*; not covered: site/notice.txt\n", out)


def test_of_plain_files_none_is_left_out(station: Station) -> None:
    plain(station, MAKER.sign({"a.safetensors": b"numbers", "b.safetensors": b"more"}))
    error = station.refused()
    assert error["found"] == "b.safetensors"
    assert "name them all" in error["hint"]


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        (None, "DefinitionInvalid", "keys/maker.pem is not beside the definition"),
        (b"", "KeyRefused", "not a public key"),
        (Maker().pem, "UpstreamSignatureInvalid", "another key than the one that was named"),
    ],
)
def test_a_wrong_key_is_said_at_its_place(
    data: bytes | None, error: str, match: str, station: Station
) -> None:
    key = station.folder / "keys" / "maker.pem"
    key.unlink() if data is None else key.write_bytes(data)
    found = station.refused()
    assert found["error"] == error
    assert match in found["message"]
    assert "signed.yaml:13:" in found["where"]
    assert station.hub.storage.asked == []


def test_a_key_can_be_pinned(station: Station) -> None:
    pinned = f'maker.pem, sha256: "{hashlib.sha256(MAKER.pem).hexdigest()}"'
    station.define("maker.pem", pinned)
    station.lock()
    (station.folder / "keys" / "maker.pem").write_bytes(Maker().pem)
    error = station.refused()
    assert error["error"] == "DigestMismatch"
    assert "signed.yaml:13:" in error["where"]


def test_a_signature_that_is_not_there_is_said_at_its_place(station: Station) -> None:
    station.publish(MODEL)
    error = station.refused()
    assert error["error"] == "DefinitionInvalid"
    assert error["message"] == f"{NAME} holds no such signature"
    assert error["where"].endswith("signed.yaml:13:23")


@pytest.mark.parametrize("data", [b"", b"{}", b" " * (8 << 20) + b"x"], ids=["empty", "none", "large"])
def test_what_is_no_signature(data: bytes, station: Station) -> None:
    station.publish({**MODEL, "model.sig": data})
    error = station.refused()
    assert error["error"] == "UpstreamSignatureInvalid"
    assert error["message"].startswith("model.sig: ")
