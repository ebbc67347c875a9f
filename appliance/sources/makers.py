"""A model's signature by its makers, checked while the model is locked.

It is compared with digests, not with bytes: what the hub publishes or the definition says is enough, so a
signature that does not hold is noticed before half a terabyte is fetched.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.definition.components import Files, HuggingFace
from appliance.errors import DefinitionInvalid, DigestMismatch, KeyRefused, UpstreamSignatureInvalid
from appliance.sources.fetching import bring
from appliance.trust.upstream import MAX_BYTES
from appliance.trust.upstream_certificates import parse_authority_pem
from appliance.trust.upstream_claim import Anchor, judge, origin_of
from appliance.trust.upstream_keys import Authority, UpstreamKey, parse_pem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from appliance.definition.components import Component, MakersSignature
    from appliance.definition.lock import Artefact
    from appliance.sources.kinds import Source, Where
    from appliance.sources.station import Station

_MAX_PEM: Final = 16384
_NAMED: Final = 10  # files named in a message before "and others"


@dataclass(frozen=True)
class CheckedSignature:
    """What was found out of the signature at ``path``: in words, and as it is added to its origin."""

    path: str
    text: str
    origin: Mapping[str, str]


@dataclass(frozen=True)
class _Named:
    """What a definition says of a signature, what it is checked with, and where that stands."""

    spec: MakersSignature
    anchor: Anchor | None
    where: Where


def check_signatures(
    components: Mapping[str, tuple[Component, Source, Sequence[Artefact]]],
    station: Station,
    where_of: Callable[[str], Where],
) -> dict[str, CheckedSignature]:
    """Check the signature of every component whose definition speaks of one; only these files are fetched.

    Args:
        components: what was asked for, its source, and what that found, by name.
        station: where the keys lie beside the definition, and where to keep what comes.
        where_of: tells places in the definition of a component.

    Raises:
        DefinitionInvalid, DigestMismatch, KeyRefused: what it is to be checked with cannot be.
        UpstreamSignatureInvalid: see ``_check``.
    """
    named = {
        name: _Named(spec, _read_anchor(spec, station.folder, where_of(name)), where_of(name))
        for name, (component, _, _) in components.items()
        if isinstance(component, Files | HuggingFace) and (spec := component.signature) is not None
    }
    if not named:
        return {}
    own = {
        name: [
            each for each in components[name][2] if each.path == one.spec.file and each.size <= MAX_BYTES
        ]
        for name, one in named.items()
    }
    bring([(components[name][1], files) for name, files in own.items()], station)
    checked = {}
    for name, one in named.items():
        _, source, artefacts = components[name]
        data = b"".join(station.store.path(each.sha256).read_bytes() for each in own[name])
        checked[name] = _check(one, data, artefacts, source.left_out)
        station.progress.note(f"{name}: {checked[name].text}")
    return checked


def with_facts(artefacts: Sequence[Artefact], checked: CheckedSignature | None) -> Sequence[Artefact]:
    """The artefacts, that of the signature with more to say of its origin."""
    if checked is None:
        return artefacts
    return [
        each.model_copy(update={"origin": {**each.origin, **checked.origin}})
        if each.path == checked.path
        else each
        for each in artefacts
    ]


def _read_anchor(spec: MakersSignature, folder: Path, where: Where) -> Anchor | None:
    """The key or the authority that a definition names; None if it names neither.

    Raises:
        DefinitionInvalid: there is no such file.
        DigestMismatch: it is another than the definition says.
        KeyRefused: it holds no key or certificate that is accepted.
    """
    if spec.anchor is None:
        return None
    kind, name = spec.anchor
    place = where(("signature", kind))
    try:
        with (folder / name).open("rb") as opened:
            data = opened.read(_MAX_PEM + 1)
    except OSError as fault:
        raise DefinitionInvalid(
            f"the file {name} is not beside the definition",
            found=fault.strerror,
            wanted=f"a PEM file in {folder}",
            where=place,
        ) from fault
    if spec.sha256 not in {None, found := hashlib.sha256(data).hexdigest()}:
        raise DigestMismatch(
            f"{name} is not the file the definition names",
            found=f"sha256 {found}",
            wanted=f"sha256 {spec.sha256}",
            hint="find out who changed it, and which key the model's makers really sign with",
            where=where(("signature", "sha256")),
        )
    read = parse_pem if kind == "key" else parse_authority_pem
    try:
        anchor: UpstreamKey | Authority = read(data)
    except KeyRefused as fault:
        fault.where = place
        raise
    return anchor


def _check(
    named: _Named, data: bytes, artefacts: Sequence[Artefact], left_out: Collection[str]
) -> CheckedSignature:
    """Check a signature over the digests that are about to be locked.

    Args:
        named: what the definition says of it.
        data: the signature's file; empty if it is too large to be one.
        artefacts: all of the component.
        left_out: what the origin also holds, and the definition does not want.

    Raises:
        UpstreamSignatureInvalid: it is malformed, by somebody else, for other files, or for files that the
            component does not have.
    """
    spec, anchor = named.spec, named.anchor
    folder = spec.file.rpartition("/")[0] + "/" if "/" in spec.file else ""
    within = {
        each.path.removeprefix(folder): each.sha256 for each in artefacts if each.path.startswith(folder)
    }
    name = spec.file.removeprefix(folder)
    try:
        if not data:
            raise UpstreamSignatureInvalid(
                "it is empty, or too large for a signature", wanted=f"at most {MAX_BYTES:,} bytes"
            )
        judged = judge(data, anchor, within.items(), name)
        coverage = judged.coverage
        if coverage is None:
            text = f"{spec.file} is carried, NOT CHECKED: {judged.unchecked}"
            return CheckedSignature(spec.file, text, origin_of(judged, anchor))
        missing = [each for each in coverage.absent if folder + each not in left_out]
        if missing:
            raise UpstreamSignatureInvalid(
                "the model's makers signed files that are not there",
                found=", ".join(missing[:_NAMED])
                + (f" and {len(missing) - _NAMED} others" if len(missing) > _NAMED else ""),
                wanted="every file they signed, but what the definition leaves out",
                hint="find out who removed them; of plain files, name them all",
            )
    except UpstreamSignatureInvalid as fault:
        fault.message = f"{spec.file}: {fault.message}"
        fault.where = named.where(("signature", "file"))
        raise
    parts = [f"{spec.file} holds: {coverage.covered} files are signed by key {judged.signed_by}"]
    outside = [each.path for each in artefacts if not each.path.startswith(folder)]
    if uncovered := [*coverage.uncovered, *outside]:
        parts.append(f"not covered: {', '.join(uncovered)}")
    if coverage.absent:
        parts.append(f"signed, and left out by the definition: {', '.join(coverage.absent)}")
    return CheckedSignature(spec.file, "; ".join(parts), origin_of(judged, anchor))
