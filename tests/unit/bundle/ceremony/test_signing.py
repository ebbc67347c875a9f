"""What a key returns is judged before it is put in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.bundle.ceremony.signing import sign_document
from appliance.bundle.documents import read_document
from appliance.bundle.signing_keys import open_key
from appliance.errors import SignatureInvalid, SignerUnknown
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.signing_keys import SigningKey
    from appliance.trust.root import Root
    from tests.conftest import Holders


@pytest.fixture
def document(tmp_path: Path, two_of_three: Root) -> Path:
    path = tmp_path / "root.1.json"
    path.write_bytes(root_bytes(two_of_three))
    return path


class Faulty:
    """A key, an agent or a token that signs something else than it was given."""

    def __init__(self, key: SigningKey, wrong: Callable[[SigningKey, bytes, str], bytes]) -> None:
        self._key, self._wrong = key, wrong

    def sign(self, message: bytes, namespace: str) -> bytes:
        return self._wrong(self._key, message, namespace)

    def sign_raw(self, data: bytes) -> None:
        return None


WRONG: dict[str, Callable[[SigningKey, bytes, str], bytes]] = {
    "another message": lambda key, message, space: key.sign(message + b" ", space),
    "another namespace": lambda key, message, _: key.sign(message, "release@appliance"),
    "no signature": lambda *_: b"x",
    "a flipped digit": lambda key, message, space: key.sign(message, space).replace(b"A", b"B", 1),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_key_that_signs_something_else(
    document: Path, holders: Holders, wrong: Callable[[SigningKey, bytes, str], bytes]
) -> None:
    with pytest.raises(SignatureInvalid):
        sign_document(document, Faulty(open_key(holders.key("alice")), wrong))
    assert [path.name for path in document.parent.iterdir()] == [document.name]


def test_another_s_key(document: Path, holders: Holders) -> None:
    with pytest.raises(SignerUnknown):
        sign_document(document, open_key(holders.key("mallory")))
    assert [path.name for path in document.parent.iterdir()] == [document.name]


def test_signing_again_replaces(document: Path, holders: Holders) -> None:
    first = sign_document(document, open_key(holders.key("bob"))).path.read_bytes()
    again = sign_document(document, open_key(holders.key("bob")))
    assert again.path.read_bytes() != first, "ECDSA signatures differ each time"
    assert len(read_document(document).signatures.ssh) == 1


def test_what_others_spoilt_is_said(document: Path, holders: Holders) -> None:
    made = sign_document(document, open_key(holders.key("alice")))
    made.path.write_bytes(b"x")
    standing = sign_document(document, open_key(holders.key("bob"))).standing
    assert [type(each) for each in standing.refusals] == [SignatureInvalid]
    assert [signer.holder for signer in standing.signers] == ["bob"]
