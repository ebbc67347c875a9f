"""A rehearsal of the whole ceremony with real keys and files, in a folder of its own.

Each step does what people would do, with the functions the commands call, and proves something by trying
what must not work as well.  A step that comes out otherwise ends the drill.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from appliance.bundle.ceremony.assembling import assemble, revoked_keys
from appliance.bundle.ceremony.drafting import revoke
from appliance.bundle.ceremony.enrolling import read_public
from appliance.bundle.ceremony.proposing import found_root, rotate_keys
from appliance.bundle.ceremony.signing import sign_document
from appliance.bundle.ceremony.transcripts import begin_log, close_transcript, verify_transcript
from appliance.bundle.documents import read_folder
from appliance.bundle.signing_keys import open_key
from appliance.errors import (
    BundleUntrusted,
    DrillFailed,
    KeyRevoked,
    SignerUnknown,
    ThresholdNotMet,
    TranscriptInvalid,
)
from appliance.trust.chain import Link, follow
from appliance.trust.policy import decide
from appliance.trust.root import Root, namespace, parse_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: The usual shape: how many people serve which roles.
_PEOPLE: Final = {
    "root": (5, "root,revoke"),
    "release": (3, "release"),
    "patch": (3, "patch"),
    "site": (2, "site,time"),
}
_LIST: Final = b"%s  payload/model/tiny.gguf\n" % (b"0" * 64)
_OTHER_LIST: Final = b"%s  payload/model/tiny.gguf\n" % (b"1" * 64)


@dataclass(frozen=True, slots=True)
class Step:
    """What was done, and what it proves."""

    name: str
    did: str
    proves: str


class Drill:
    """The folder of a drill, and where it stands."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys, self._trust, self._thief = folder / "keys", folder / "trust", folder / "thief"
        self._log = folder / "transcript.jsonl"

    def steps(self) -> Iterator[Step]:
        """Do one step after the other.

        Raises:
            DrillFailed: something that must not work worked.
            ApplianceError: something that must work did not.
        """
        self._keys.mkdir(parents=True)
        self._thief.mkdir()
        yield self._found()
        yield self._release()
        yield self._lose()
        yield self._too_few()
        yield self._rotate()
        yield self._steal()
        yield self._revoke()
        yield self._follow()
        yield self._count_no_more()
        yield self._write_down()

    def _found(self) -> Step:
        holders = []
        for role, (count, roles) in _PEOPLE.items():
            for number in range(1, count + 1):
                self._new_key(f"{role}-{number}")
                holders.append(f"{role}-{number}={self._keys / f'{role}-{number}.pub'}:{roles}")
        draft = found_root(self._folder / "draft", holders).path
        sticks = self._signed(draft, ["root-1", "root-2"], None)
        self._refused(ThresholdNotMet, lambda: assemble(sticks, self._trust, root=None))
        sticks += self._signed(draft, ["root-3"], None)
        self._assembled(sticks, None)
        return Step(
            "found",
            "root 1: root 3 of 5, release 2 of 3, patch 2 of 3, revoke 2 of 5, site and time 1 of 2",
            "two of five signatures are refused; three put the root in its place",
        )

    def _release(self) -> Step:
        root = self._root(1)
        alone = self._list_signatures(_LIST, ["release-1"])
        self._refused(ThresholdNotMet, lambda: decide(_LIST, alone, root, "release").require())
        both = self._list_signatures(_LIST, ["release-1", "release-2"])
        decide(_LIST, both, root, "release").require()
        self._refused(BundleUntrusted, lambda: decide(_OTHER_LIST, both, root, "release").require())
        self._refused(BundleUntrusted, lambda: decide(_LIST, both, root, "patch").require())
        return Step(
            "release",
            "two of three release holders signed a bundle's list",
            "it is accepted; with one signature, altered, or as a patch it is not",
        )

    def _lose(self) -> Step:
        # A thief has it from now on: what is lost may be found.
        for name in ("root-1", "root-1.pub"):
            shutil.move(self._keys / name, self._thief / name)
        self._new_key("root-1")
        return Step(
            "lose", "root-1 lost their key, and made a new one", "nothing yet: four of five are left"
        )

    def _too_few(self) -> Step:
        draft = rotate_keys(
            self._trust / "root.1.json", self._folder / "draft", [f"root-1={self._keys / 'root-1.pub'}"]
        ).path
        root = self._trust / "root.1.json"
        sticks = self._signed(draft, ["root-2", "root-3"], root)
        self._refused(ThresholdNotMet, lambda: assemble(sticks, self._trust, root=root))
        sticks += self._signed(draft, ["root-1"], root)
        self._refused(ThresholdNotMet, lambda: assemble(sticks, self._trust, root=root))
        return Step(
            "too few",
            "two old holders, and the new key itself, signed root 2",
            "refused: a new key does not vouch for itself, three holders of root 1 must",
        )

    def _rotate(self) -> Step:
        root, draft = self._trust / "root.1.json", self._folder / "draft/root.2.json"
        self._signed(draft, ["root-4"], root)
        self._assembled(self._sticks(draft), root)
        return Step("rotate", "a third old holder signed", "root 2 is in its place, without the lost key")

    def _steal(self) -> Step:
        for name in ("release-1", "release-1.pub"):
            shutil.copy2(self._keys / name, self._thief / name)
            (self._keys / name).unlink()
        self._new_key("release-1")
        before = self._trust / "root.2.json"
        draft = rotate_keys(
            before, self._folder / "draft", [f"release-1={self._keys / 'release-1.pub'}"]
        ).path
        self._assembled(self._signed(draft, ["root-1", "root-3", "root-5"], before), before)
        stolen = self._list_signatures(_OTHER_LIST, ["release-1"], self._thief)
        stolen |= self._list_signatures(_OTHER_LIST, ["release-2"])
        self._refused(
            SignerUnknown, lambda: decide(_OTHER_LIST, stolen, self._root(3), "release").require()
        )
        return Step(
            "steal",
            "release-1's key was stolen; root 3 enrols a new one, signed by root-1's new key among others",
            "with root 3 the stolen key signs nothing any more",
        )

    def _revoke(self) -> Step:
        newest = self._trust / "root.3.json"
        stolen = read_public(self._thief / "release-1.pub").keyid
        draft = revoke(self._folder / "draft", root=newest, before=None, keys=[stolen], bundles=[]).path
        self._assembled(self._signed(draft, ["root-2", "root-5"], newest), newest)
        gone = revoked_keys(self._trust / draft.name, parse_root(newest.read_bytes()))
        signed = self._list_signatures(_OTHER_LIST, ["release-1"], self._thief)
        signed |= self._list_signatures(_OTHER_LIST, ["release-2"])
        decide(_OTHER_LIST, signed, self._root(1), "release").require()
        self._refused(
            KeyRevoked,
            lambda: decide(_OTHER_LIST, signed, self._root(1), "release", revoked=gone).require(),
        )
        return Step(
            "revoke",
            "two of five revoked the stolen key",
            "who still holds root 1 is protected as well: root 1 alone accepts the thief, with the "
            "revocation it does not",
        )

    def _follow(self) -> Step:
        chain = follow((self._trust / "root.1.json").read_bytes(), self._links())
        self._expect(chain.root.version == 3, "a verifier did not follow to root 3")  # noqa: PLR2004
        again = follow((self._trust / "root.3.json").read_bytes(), self._links())
        self._expect(again.root.version == 3, "a verifier went back from root 3")  # noqa: PLR2004
        gap = {version: link for version, link in self._links().items() if version != 2}  # noqa: PLR2004
        self._refused(BundleUntrusted, lambda: follow((self._trust / "root.1.json").read_bytes(), gap))
        return Step(
            "follow",
            "a verifier that trusts root 1 was shown the folder",
            "it follows to root 3, not over a gap, and never back",
        )

    def _count_no_more(self) -> Step:
        before = self._trust / "root.3.json"
        self._new_key("patch-1b")
        draft = rotate_keys(before, self._folder / "draft", [f"patch-1={self._keys / 'patch-1b.pub'}"]).path
        lost = open_key(self._thief / "root-1")
        self._refused(SignerUnknown, lambda: sign_document(draft, lost, root=before))
        self._signed(draft, ["root-2", "root-3"], before)
        self._refused(ThresholdNotMet, lambda: assemble(self._sticks(draft), self._trust, root=before))
        return Step(
            "lost for good",
            "whoever found root-1's old key tried to sign root 4 with two others",
            "the lost key counts no more, and two of five cannot rotate",
        )

    def _write_down(self) -> Step:
        close_transcript(self._log, self._keys / "root-2", holder="root-2", note=None)
        roots = [self._root(version) for version in (1, 2, 3)]
        count = len(verify_transcript(self._log, roots).lines)
        data = self._log.read_bytes()
        spoilt = self._folder / "spoilt.jsonl"
        lines = data.splitlines(keepends=True)
        for wrong in (lines[:-1], lines[1:], [*lines[:2], lines[3], lines[2], *lines[4:]]):
            spoilt.write_bytes(b"".join(wrong))
            self._refused(TranscriptInvalid, lambda: verify_transcript(spoilt, roots))
        return Step(
            "write down",
            f"{count} lines of transcript, signed and closed",
            "cut at its end, at its start, or reordered, it is refused",
        )

    def _new_key(self, name: str) -> None:
        """A key in files as ssh-keygen writes them."""
        key = Ed25519PrivateKey.generate()
        private = self._keys / name
        private.touch(mode=0o600)
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        private.with_name(f"{name}.pub").write_bytes(public + b" drill\n")

    def _signed(self, draft: Path, names: list[str], root: Path | None) -> list[Path]:
        """Each person signs a copy on a stick of their own; the sticks."""
        sticks = []
        for name in names:
            stick = self._folder / "sticks" / draft.stem / name
            stick.mkdir(parents=True)
            copy = stick / draft.name
            shutil.copyfile(draft, copy)
            signer = open_key(self._keys / name)
            made = sign_document(copy, signer, root=root)
            begin_log(self._log, signer).add("sign", taken=[copy], made=[made.path], holder=name)
            sticks.append(stick)
        return sticks

    def _sticks(self, draft: Path) -> list[Path]:
        return sorted((self._folder / "sticks" / draft.stem).iterdir())

    def _assembled(self, sticks: list[Path], root: Path | None) -> None:
        done = assemble(sticks, self._trust, root=root)
        begin_log(self._log).add("assemble", made=[path for each in done for path in each.files])

    def _root(self, version: int) -> Root:
        return parse_root((self._trust / f"root.{version}.json").read_bytes())

    def _links(self) -> dict[int, Link]:
        return {
            int(path.name.split(".")[1]): Link(signed.data, signed.signatures)
            for path, signed in read_folder(self._trust)
            if path.name.startswith("root.")
        }

    def _list_signatures(
        self, listing: bytes, names: list[str], keys: Path | None = None
    ) -> dict[str, bytes]:
        return {
            name: open_key((keys or self._keys) / name).sign(listing, namespace("release"))
            for name in names
        }

    def _refused(self, wanted: type[BundleUntrusted], attempt: Callable[[], object]) -> None:
        """Try what must not work."""
        try:
            attempt()
        except wanted:
            return
        except BundleUntrusted as other:
            raise DrillFailed(
                "something was refused for another reason", found=other.name, wanted=wanted.__name__
            ) from other
        raise DrillFailed("something was accepted that must not be", wanted=wanted.__name__)

    def _expect(self, so: bool, otherwise: str) -> None:
        if not so:
            raise DrillFailed(otherwise)
