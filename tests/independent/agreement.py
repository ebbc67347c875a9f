"""The project's judgements, each shown to the independent verifier too, which must say the same.

The corpus imports these in the place of the project's own.  Most are of a bundle's parts: a document, the
signatures over something, a chain of roots; the verifier has a function for each, and for the whole.
``COMPARED`` counts what both were asked.
"""

from __future__ import annotations

import importlib.util
import json
from base64 import b64encode
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest

from appliance.bundle import listing, manifest
from appliance.bundle import verify as bundles
from appliance.bundle.list_kind import INDEX
from appliance.errors import ApplianceError
from appliance.trust import chain, dsse, keys, mldsa, policy, revocation, root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from appliance.bundle.list_kind import ListKind
    from appliance.bundle.verify import VerifiedBundle
    from appliance.trust.chain import Chain, Judged, Link
    from appliance.trust.documents import SignedDocument
    from appliance.trust.policy import Signatures, Verdict
    from appliance.trust.root import Root

_spec = importlib.util.spec_from_file_location("verifier", Path(__file__).with_name("verifier.py"))
assert _spec is not None
assert _spec.loader is not None
verifier = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(verifier)

#: How many inputs both were asked about, by what became of them: accepted, refused.
COMPARED: Final[Counter[str]] = Counter()
T = TypeVar("T")


def refusal(ask: Callable[[], object]) -> str | None:
    """Why the independent verifier refuses, or None where it accepts; a slip of its own refuses nothing."""
    try:
        ask()
    except (AttributeError, NameError, TypeError):
        raise
    except Exception as refused:  # noqa: BLE001 - whatever it raises refuses
        return repr(refused)
    return None


def agree(reason: str | None, refused: object) -> None:
    """Both have judged: count it, or say who stands alone.

    Args:
        reason: why the independent verifier refuses; None if it does not.
        refused: the same of the project.
    """
    if refused and reason is None:
        pytest.fail(f"the project alone refuses: {refused!r}")
    if reason is not None and not refused:
        pytest.fail(f"the independent verifier alone refuses: {reason}")
    COMPARED["refused" if refused else "accepted"] += 1


def compare(ask: Callable[[], object], judge: Callable[[], T]) -> T:
    """What the project's function returns, if the verifier accepts too; its error, if that refuses."""
    reason = refusal(ask)  # first: the project may keep the folder open, or a test change it afterwards
    try:
        found = judge()
    except ApplianceError as error:
        agree(reason, error)
        raise
    agree(reason, None)
    return found


def verify_bundle(
    bundle: Path | Sequence[Path],
    trusted: bytes,
    role: str = "release",
    revocations: Sequence[SignedDocument] = (),
    **options: Any,
) -> VerifiedBundle:
    """``appliance.bundle.verify.verify_bundle``."""
    folders = [bundle] if isinstance(bundle, Path) else list(bundle)
    with TemporaryDirectory() as folder:
        brought = [_lay(Path(folder, str(number)), each) for number, each in enumerate(revocations)]
        return compare(
            lambda: verifier.verify(folders, trusted, role, *brought),
            lambda: bundles.verify_bundle(bundle, trusted, role=role, revocations=revocations, **options),
        )


def _lay(folder: Path, document: SignedDocument) -> Path:
    """A revocation as ``verify --revoked`` finds it: its signatures beside it."""
    folder.mkdir()
    name = f"revoked.{json.loads(document.data)['serial']}"
    (folder / f"{name}.json").write_bytes(document.data)
    for end, data in _ends(document.signatures).items():
        (folder / f"{name}.{end}").write_bytes(data)
    return folder / f"{name}.json"


def _ends(signatures: Signatures) -> dict[str, bytes]:
    """Signatures by the end of their files' names."""
    ends = {f"{name}.sig": data for name, data in signatures.ssh.items()}
    return ends | {f"{name}.mldsa87": data for name, data in signatures.post_quantum.items()}


def decide(
    message: bytes,
    signatures: Mapping[str, bytes],
    trusted: Root,
    role: str,
    *,
    post_quantum: Mapping[str, bytes] | None = None,
    revoked: Iterable[str] = frozenset(),
) -> Verdict:
    """``appliance.trust.policy.decide``."""
    said = json.loads(root.root_bytes(trusted))
    revoked = frozenset(revoked)
    given = message, _ends(policy.Signatures(signatures, post_quantum or {}))
    reason = refusal(lambda: verifier.count([said], role, given, revoked))
    verdict = policy.decide(message, signatures, trusted, role, post_quantum=post_quantum, revoked=revoked)
    agree(reason, verdict.refusals)
    return verdict


def follow(trusted: bytes, carried: Mapping[int, Link]) -> Chain:
    """``appliance.trust.chain.follow``."""
    return compare(lambda: _follow(trusted, carried), lambda: chain.follow(trusted, carried))


def _follow(trusted: bytes, carried: Mapping[int, Link]) -> None:
    links = ((f"trust/root.{version}.json", link) for version, link in carried.items())
    verifier.follow(trusted, {path: (link.data, _ends(link.signatures)) for path, link in links})


def judge_link(before: Root | None, link: Link) -> Judged:
    """``appliance.trust.chain.judge_link``."""

    def first() -> None:
        said = verifier.read_root(link.data)
        verifier.need(said["version"] == 1)
        verifier.count([said], "root", (link.data, _ends(link.signatures)))

    def later() -> None:
        assert before is not None
        _follow(root.root_bytes(before), {before.version + 1: link})

    reason = refusal(first if before is None else later)
    judged = chain.judge_link(before, link)
    agree(reason, judged.refusals)
    return judged


def parse_root(data: bytes) -> Root:
    """``appliance.trust.root.parse_root``."""
    return compare(lambda: verifier.read_root(data), lambda: root.parse_root(data))


def parse_revocation(data: bytes) -> revocation.Revocation:
    """``appliance.trust.revocation.parse_revocation``."""

    def ask() -> None:
        said = verifier.canonical(data, "revocation")
        verifier.need(*(said[key] == sorted({*said[key]}) for key in ("keys", "bundles")))

    return compare(ask, lambda: revocation.parse_revocation(data))


def parse_listing(data: bytes, kind: ListKind = INDEX) -> listing.Listing:
    """``appliance.bundle.listing.parse_listing``; the verifier asks how long it is before it reads it."""

    def ask() -> None:
        verifier.need(len(data) <= 64 * verifier.MIB)
        verifier.read_list(data, kind.algorithm)

    return compare(ask, lambda: listing.parse_listing(data, kind))


def parse_manifest(data: bytes) -> manifest.Manifest:
    """``appliance.bundle.manifest.parse_manifest``; its length is asked first, as of a list.

    The list says which files may be there.
    """

    def ask() -> None:
        verifier.need(len(data) <= 128 * verifier.MIB)
        said, payload = verifier.read_manifest(data)
        paths = [file["path"] for file in [*said["files"], *payload, {"path": "manifest.json"}]]
        verifier.need(verifier.fits("list256", "".join(f"{'0' * 64}  {path}\n" for path in sorted(paths))))

    return compare(ask, lambda: manifest.parse_manifest(data))


def parse_envelope(data: bytes) -> dsse.Envelope:
    """``appliance.trust.dsse.parse_envelope``; of its payload only that it is spelled in the one way."""
    return compare(lambda: verifier.canonical(data, "envelope"), lambda: dsse.parse_envelope(data))


def _read_key(public: str) -> None:
    verifier.need(len(public) <= verifier.MIB)  # as a root is
    verifier.need(verifier.fits("any_key", public))
    verifier.read_key(public)


def parse_public(text: str) -> keys.PublicKey:
    """``appliance.trust.keys.parse_public``."""
    return compare(lambda: _read_key(text), lambda: keys.parse_public(text))


def parse_blob(blob: bytes) -> keys.PublicKey:
    """``appliance.trust.keys.parse_blob``: the verifier knows keys only as a root spells them."""

    def ask() -> None:
        kind = verifier.unpack(blob, 1)[0].decode()
        _read_key(f"{kind} {b64encode(blob).decode()}")

    return compare(ask, lambda: keys.parse_blob(blob))


def parse_post_quantum(text: str) -> mldsa.PostQuantumKey:
    """``appliance.trust.mldsa.parse_post_quantum``."""
    return compare(lambda: _read_key(text), lambda: mldsa.parse_post_quantum(text))


def verify_post_quantum(key: mldsa.PostQuantumKey, signature: bytes, message: bytes, space: str) -> None:
    """``appliance.trust.mldsa.verify_post_quantum``, as by a root that asks nobody else to sign."""
    role = {"threshold": 0, "keys": [key.keyid]}
    public = {"holder": "alice", "public": key.text}
    said = {"keys": {key.keyid: public}, "roles": {space.removesuffix("@appliance"): role}, "policy": {}}

    given = message, {"alice.mldsa87": signature}

    def ask() -> None:
        verifier.count([said], space.removesuffix("@appliance"), given)

    compare(ask, lambda: mldsa.verify_post_quantum(key, signature, message, space))
