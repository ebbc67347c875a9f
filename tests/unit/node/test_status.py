"""What a node says it holds: made by its real program on this machine, signed by ssh-keygen."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.ceremony.showing import show
from appliance.bundle.verify import verify_bundle
from appliance.cli.status import status_text
from appliance.definition.inventory import NodeEntry
from appliance.errors import NodeInventoryInvalid, PreflightFailed
from appliance.node import status
from appliance.node.connection import LocalConnection
from appliance.node.sent import files_to_send
from appliance.node.status import Place, ask, read_status
from appliance.node.transfer import Transfer
from appliance.progress import Silent
from appliance.trust.canonical import canonical_bytes
from appliance.trust.journal import Journal, KnownRoot, journal_bytes
from appliance.trust.keys import PublicKey, parse_public_file
from appliance.trust.node_inventory import judge_inventory, parse_inventory
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

NODE = NodeEntry("gpu-01", "local", IPv4Address("10.20.0.11"), 22, ())
WHEEL = "payload/engine/engine.whl"


class Node:
    """This machine as a node: a home with one staged bundle and a journal, and host keys of its own."""

    def __init__(self, folder: Path, bundle: str, key: PublicKey) -> None:
        self.home, self.keys = folder / "home", folder / "keys"
        self.bundle, self.key = bundle, key

    @property
    def copy(self) -> Path:
        return self.home / "staged" / self.bundle

    def ask(self, *, short: bool = False, recheck: bool = False) -> bytes:
        place = Place(str(self.home), str(self.keys))
        return ask(LocalConnection(NODE), "site", short=short, recheck=recheck, place=place)

    def said(self, **how: bool) -> dict[str, Any]:
        return dict(json.loads(self.ask(**how)))


def make_key(place: Path, kind: str) -> PublicKey:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", place], check=True)
    return parse_public_file(place.with_suffix(".pub").read_text())


@pytest.fixture
def node(maker_in: Callable[[Path], BundleMaker], two_of_three: Root, tmp_path: Path) -> Node:
    maker = maker_in(tmp_path / "source")
    contents = {"engine": ("python", {"engine.whl": b"wheel"}), "model": ("tiny-gguf", {"tiny.gguf": b"w"})}
    bundle = maker.write("bundle", two_of_three, maker.lock(contents))
    maker.sign(bundle, "alice", "bob")
    verified = verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    (tmp_path / "keys").mkdir()
    made = Node(tmp_path, verified.digest, make_key(tmp_path / "keys/ssh_host_ed25519_key", "ed25519"))
    transfer = Transfer.begin(
        LocalConnection(NODE),
        bundle,
        verified.digest,
        files_to_send(verified),
        progress=Silent(),
        home=str(made.home / "staged"),
    )
    transfer.send(Silent())
    text = journal_bytes(Journal("5" * 32, KnownRoot(7, "a" * 64)))
    (made.home / "journal").mkdir(mode=0o700)
    slot = made.home / "journal/a"
    slot.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    slot.chmod(0o600)
    installed = {"digest": made.bundle, "product": "demo", "version": "1.0.0", "sequence": 4}
    (made.home / "installed.json").write_text(json.dumps(installed))
    return made


def test_a_node_says_what_it_holds_and_signs_it(node: Node) -> None:
    data = node.ask()
    said = parse_inventory(data)
    assert judge_inventory(said, [make_key(node.home.parent / "other", "ed25519"), node.key]) == node.key
    assert (said.site, said.node) == ("site", "gpu-01")
    assert said.installed is not None
    assert (said.installed.bundle, said.installed.sequence) == (node.bundle, 4)
    assert said.journal is not None
    assert said.journal.root == 7
    (copy,) = said.copies
    assert (copy.bundle, copy.whole, copy.hashed) == (node.bundle, True, 0)
    assert copy.files == len(copy.holds) == len([*node.copy.rglob("*.*")]) - 4
    assert WHEEL in copy.holds


def test_what_was_hashed_now_is_told_from_what_is_remembered(node: Node) -> None:
    os.utime(node.copy / WHEEL)
    assert node.said()["copies"][0]["hashed"] == 1
    assert node.said(recheck=True)["copies"][0]["hashed"] == node.said()["copies"][0]["files"]


def test_a_file_that_is_not_what_was_signed_is_not_held(node: Node) -> None:
    (node.copy / WHEEL).chmod(0o644)
    (node.copy / WHEEL).write_bytes(b"whee1")
    (node.copy / WHEEL).chmod(0o444)
    (copy,) = parse_inventory(node.ask()).copies
    assert not copy.whole
    assert WHEEL in copy.faults
    assert WHEEL not in copy.holds
    assert parse_inventory(node.ask(short=True)).copies[0].wrong == 1
    assert "1 wrong" in status_text([read_status(node.ask(), NODE, [node.key], site="site")], {})


def test_a_copy_cut_off_is_not_whole(node: Node) -> None:
    node.copy.with_name(f"{node.bundle}.complete").unlink()
    (copy,) = parse_inventory(node.ask()).copies
    assert not copy.whole


def test_the_short_form_can_be_typed_and_scanned_from_two_codes(node: Node, tmp_path: Path) -> None:
    file = tmp_path / "gpu-01.short.json"
    file.write_bytes(node.ask(short=True))
    assert judge_inventory(parse_inventory(file.read_bytes()), [node.key]) == node.key
    shown = show(file)
    assert len(shown.lines) < 45
    assert len(shown.codes(970)) <= 2


def test_an_ecdsa_host_key_does_as_well(node: Node) -> None:
    (node.keys / "ssh_host_ed25519_key").unlink()
    key = make_key(node.keys / "ssh_host_ecdsa_key", "ecdsa")
    assert judge_inventory(parse_inventory(node.ask()), [key]) == key


def test_without_a_key_nothing_is_said(node: Node) -> None:
    (node.keys / "ssh_host_ed25519_key").unlink()
    with pytest.raises(PreflightFailed, match="cannot say what it holds") as raised:
        node.ask()
    assert "ssh_host_ed25519_key" in (raised.value.found or "")


def test_a_new_node_says_that_it_holds_nothing(node: Node, tmp_path: Path) -> None:
    node.home = tmp_path / "nothing"
    said = parse_inventory(node.ask())
    assert (said.copies, said.installed, said.journal) == ((), None, None)
    assert "nothing installed" in status_text([read_status(node.ask(), NODE, [node.key], site="site")], {})


@pytest.mark.parametrize(("node_name", "site"), [("gpu-02", "site"), ("gpu-01", "elsewhere")])
def test_a_node_speaks_for_itself_alone(node: Node, node_name: str, site: str) -> None:
    """Two nodes whose keys the site pins, or whose key was copied: the name that was asked must answer."""
    asked = replace(NODE, name=node_name)
    with pytest.raises(NodeInventoryInvalid, match="answers as another") as raised:
        read_status(node.ask(), asked, [node.key], site=site)
    assert raised.value.found == "gpu-01 of site"
    assert raised.value.wanted == f"{node_name} of {site}"


@dataclass(frozen=True)
class Says(LocalConnection):
    """A connection to a node that answers this."""

    out: bytes = b""

    def run(self, *_: object, **__: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess([], 0, self.out, b"")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (b"", "exit status 0"),
        (b"motd", "motd"),
        (b"[]", "TypeError"),
        (b"5", "TypeError"),
        (b"null", "TypeError"),
        (b'"text"', "TypeError"),
        (b"{}", "KeyError"),
        (b'{"text": 5}', "AttributeError"),
        (b'["error"]', "AttributeError"),
        (b'{"text": "\\ud800"}', "no text"),
        (b'{"error": "failed", "text": "no key"}', "no key"),
        (b'{"text":' + b"[" * 200_000, "nested too deeply"),
    ],
    ids=range(12),
)
def test_an_odd_answer_is_that_nodes_own_trouble(said: bytes, found: str) -> None:
    with pytest.raises(PreflightFailed, match="cannot say what it holds") as raised:
        ask(Says(NODE, said), "site")
    assert found in (raised.value.found or "")


def test_an_answer_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_ANSWER", 1000)
    with pytest.raises(PreflightFailed) as raised:
        ask(Says(NODE, b" " * 1000 + b'{"text":"x"}'), "site")
    assert "an answer of 1,012 bytes" in (raised.value.found or "")


@pytest.mark.parametrize("field", ["site", "node", "time", "copies", "installed", "journal", "serving"])
def test_a_changed_inventory_is_not_the_nodes(node: Node, field: str) -> None:
    values = node.said()
    if field == "copies":
        values["copies"][0]["hashed"] += 1
    elif isinstance(values[field], str):
        values[field] = {"time": "2026-01-01T00:00:00Z"}.get(field, "other")
    else:
        del values[field]
    with pytest.raises(NodeInventoryInvalid, match="not signed with the node's pinned host key"):
        judge_inventory(parse_inventory(canonical_bytes(values)), [node.key])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values.update(more=1), "unknown keys"),
        (lambda values: values.pop("site"), "keys are missing"),
        (lambda values: values.update(type="root"), "another kind"),
        (lambda values: values.update(signature="A==="), "base64"),
        (lambda values: values["copies"].append(values["copies"][0]), "each of another bundle"),
        (lambda values: values["copies"][0].update(files=0), "contradict"),
        (lambda values: values["copies"][0].update(wrong={WHEEL: "not there"}), "contradict"),
        (lambda values: values["copies"][0]["holds"].update({WHEEL: "x"}), "misspelled"),
        (lambda values: values.update(node="a\u202eb"), "not printable"),
    ],
)
def test_a_malformed_inventory_is_refused(node: Node, change: Callable[[Any], None], said: str) -> None:
    values = node.said()
    change(values)
    with pytest.raises(NodeInventoryInvalid, match=said):
        parse_inventory(canonical_bytes(values))


def test_the_inventory_has_one_spelling(node: Node) -> None:
    with pytest.raises(NodeInventoryInvalid, match="not canonical"):
        parse_inventory(node.ask() + b"\n")
