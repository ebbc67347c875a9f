"""Names of files say what is signed by whom, and nothing else does."""

from __future__ import annotations

import pytest

from appliance.trust.documents import signature_name, signatures_beside, signer_in

KEY = "3f1c9a2b" + "0" * 56


def test_a_name_is_read_back() -> None:
    name = signature_name("root.2.json", "alice", KEY)
    assert name == "root.2.alice.3f1c9a2b.sig"
    assert signer_in("root.2.json", name) == ("alice.3f1c9a2b", "sig")
    second = signature_name("root.2.json", "alice", KEY, post_quantum=True)
    assert signer_in("root.2.json", second) == ("alice.3f1c9a2b", "mldsa87")


@pytest.mark.parametrize(
    "name",
    [
        "root.2.json",
        "root.2.alice.sig",
        "root.2.alice.3f1c9a2.sig",
        "root.2.alice.3F1C9A2B.sig",
        "root.2.Alice.3f1c9a2b.sig",
        "root.2.-alice.3f1c9a2b.sig",
        "root.2.alice.3f1c9a2b.sig.bak",
        "root.20.alice.3f1c9a2b.sig",
        "root.2..3f1c9a2b.sig",
        "../root.2.alice.3f1c9a2b.sig",
    ],
)
def test_another_name(name: str) -> None:
    assert signer_in("root.2.json", name) is None


def test_signatures_are_found_among_other_files() -> None:
    files = {
        "root.2.json": b"{}",
        "root.2.alice.3f1c9a2b.sig": b"one",
        "root.2.bob.00000000.sig": b"two",
        "root.2.bob.00000000.mldsa87": b"three",
        "root.3.bob.00000000.sig": b"other",
        "notes.txt": b"",
    }
    found = signatures_beside("root.2.json", files)
    assert found.ssh == {"alice.3f1c9a2b": b"one", "bob.00000000": b"two"}
    assert found.post_quantum == {"bob.00000000": b"three"}
