"""Writing roots that are to be signed: the first one, and a next one with something changed.

Nothing here trusts anything: a proposal is a file, and counts when enough people have signed it.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from appliance.bundle.ceremony.enrolling import read_holders, read_policy, read_thresholds
from appliance.bundle.durable import have_folder, replace_file, writing_under
from appliance.bundle.roots import load_root, signers_digest
from appliance.errors import RootInvalid, Usage
from appliance.trust.allowed_signers import allowed_signers
from appliance.trust.founding import Enrolment, compose, enrolments_of, next_root
from appliance.trust.root import Policy, Root, parse_root, root_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_KEYID: Final = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class WrittenRoot:
    """A root to be signed, the two files that were written, and the root it is to follow."""

    root: Root
    path: Path
    signers_path: Path
    signers_digest: str
    before: Root | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be different in the next root; as a person writes it."""

    add: Sequence[str] = ()
    remove: Sequence[str] = ()
    thresholds: Sequence[str] = ()
    pq: str | None = None
    profile: str | None = None
    solo: bool | None = None


def found_root(
    out: Path,
    holders: Iterable[str],
    thresholds: Iterable[str] = (),
    *,
    pq: str | None = None,
    profile: str | None = None,
    solo: bool = False,
) -> WrittenRoot:
    """Write ``root.1.json`` and ``root.1.allowed_signers`` to the folder ``out``.

    Args:
        out: made if it is not there; must hold neither file yet.
        holders: ``NAME=KEY.pub`` or ``NAME=KEY.pub:ROLE,ROLE`` for each.
        thresholds: ``ROLE=N`` for each that is not the usual one.
        pq: what is asked about ML-DSA signatures; nothing if None.
        profile: the profile; the standard one if None.
        solo: whether one person alone may do everything.

    Raises:
        Usage: misspelled or contradictory arguments, or a file that exists already.
        KeyRefused: a key is weak, malformed or of a kind not allowed.
    """
    policy = read_policy(Policy(), pq, profile)
    with _said_as_usage():
        root = compose(read_holders(holders), read_thresholds(thresholds), policy=policy, solo=solo)
    return _write(out, root)


def propose_root(before: Path, out: Path, changes: Changes) -> WrittenRoot:
    """Write the root that is to follow the one in ``before``.

    What is removed goes first, then what is added comes: so a person's roles are changed by removing and
    adding one and the same key.

    Raises:
        Usage: misspelled or contradictory arguments, nothing changes, or a file that exists already.
        KeyRefused: a key is weak, malformed or of a kind not allowed.
        RootInvalid: ``before`` is no root.
    """
    root = parse_root(load_root(before, None))
    kept = enrolments_of(root)
    for each in changes.remove:
        gone = keys_named(root, each)
        kept = [one for one in kept if one.key.keyid not in gone]
    policy = read_policy(root.policy, changes.pq, changes.profile)
    with _said_as_usage():
        proposed = next_root(
            root,
            _merged(kept, read_holders(changes.add)),
            read_thresholds(changes.thresholds),
            policy=policy,
            solo=changes.solo,
        )
    return _write(out, proposed, root)


def rotate_keys(before: Path, out: Path, holders: Iterable[str]) -> WrittenRoot:
    """Write the next root, in which these holders' keys are exchanged in all their roles.

    Args:
        before: the root it is to follow.
        out: the folder to write to.
        holders: ``NAME=NEW.pub`` for each; the key of the same kind goes.

    Raises:
        Usage, KeyRefused, RootInvalid: as ``propose_root``.
    """
    root = parse_root(load_root(before, None))
    enrolments = enrolments_of(root)
    for new in read_holders(holders):
        old = [one for one in enrolments if one.holder == new.holder and type(one.key) is type(new.key)]
        if len(old) != 1:
            raise Usage(
                f"{new.holder} has not exactly one key of this kind",
                found=", ".join(one.key.keyid for one in old) or "none",
                wanted="one, which is exchanged",
                hint="say it with: appliance trust propose --remove KEYID --add NAME=KEY.pub:ROLES",
            )
        enrolments[enrolments.index(old[0])] = replace(old[0], key=new.key)
    with _said_as_usage():
        proposed = next_root(root, enrolments, {})
    return _write(out, proposed, root)


def key_in(root: Root, text: str) -> str:
    """The identity of a root's key that begins with these digits.

    Raises:
        Usage: there is none, or there are several.
    """
    found = [keyid for keyid in root.keys if _KEYID.fullmatch(text) and keyid.startswith(text)]
    if len(found) != 1:
        raise Usage(
            f"root {root.version} has no such holder, and not exactly one such key",
            found=ascii(text),
            wanted=f"one of {', '.join(sorted({each.holder for each in root.keys.values()}))}, "
            "or 8 or more digits of a key's identity",
            hint="appliance trust inspect shows them",
        )
    return found[0]


def keys_named(root: Root, text: str) -> list[str]:
    """The identities of all keys of a holder, or of the one key that is named by its identity.

    Raises:
        Usage: there is no such holder or key.
    """
    return [keyid for keyid, entry in root.keys.items() if entry.holder == text] or [key_in(root, text)]


def _merged(kept: list[Enrolment], added: list[Enrolment]) -> list[Enrolment]:
    """Who is added with a key that is there already serves more roles with it."""
    merged = {one.key.keyid: one for one in kept}
    for new in added:
        old = merged.get(new.key.keyid)
        if old is not None and old.holder != new.holder:
            raise Usage(
                "this key has another holder",
                found=f"{new.holder}={new.key.fingerprint}",
                wanted=f"{old.holder}, who holds it, or a key of {new.holder}'s own",
            )
        roles = tuple(dict.fromkeys((*(old.roles if old else ()), *new.roles)))
        merged[new.key.keyid] = replace(new, roles=roles)
    return list(merged.values())


@contextmanager
def _said_as_usage() -> Iterator[None]:
    """A root that cannot be is here no damaged file, but something that was asked for."""
    try:
        yield
    except RootInvalid as fault:
        raise Usage(
            fault.message.removeprefix("root: "),
            found=fault.found,
            wanted=fault.wanted,
            hint="change what is asked for; docs/trust.md says what a root must be",
        ) from fault


def _write(out: Path, root: Root, before: Root | None = None) -> WrittenRoot:
    stem = f"root.{root.version}"
    path, signers_path = out / f"{stem}.json", out / f"{stem}.allowed_signers"
    for file in (path, signers_path):
        if os.path.lexists(file):
            raise Usage(
                f"{file} exists already",
                hint="there is one root of a version: name another folder with --out, or remove the draft",
            )
    with writing_under(out):
        have_folder(out)
        replace_file(path, root_bytes(root))
        replace_file(signers_path, allowed_signers(root).encode())
    return WrittenRoot(root, path, signers_path, signers_digest(root), before)
