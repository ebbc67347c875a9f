"""Components of kind ``huggingface``: files of a model repository at one commit."""

from __future__ import annotations

import hashlib
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Final

from appliance.bundle.paths import check_path
from appliance.definition.lock import Artefact
from appliance.errors import BundleMalformed, DefinitionInvalid, DigestMismatch, FormatRefused
from appliance.sources.http_download import fetch_resuming
from appliance.sources.hub import Hub, HubFile, Snapshot
from appliance.sources.kinds import UNKNOWN, Source, by_path
from appliance.sources.model_contents import betrays
from appliance.sources.model_formats import WHY, needs
from appliance.sources.together import together

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BufferedRandom

    from appliance.definition.components import HuggingFace
    from appliance.definition.lock import OriginKey
    from appliance.sources.kinds import Where

_CONNECTIONS: Final = 4  # files fetched at the same time
_NAMED: Final = 5  # files named in a message before "and others"
_READ: Final = 1 << 20


class HuggingFaceRepository(Source):
    """A model repository on this station's hub."""

    def resolve(self, spec: HuggingFace, where: Where) -> list[Artefact]:
        """The files the definition asks for, at the commit its revision stands for now.

        Raises:
            DefinitionInvalid: a pattern matches nothing, or a file cannot lie in a bundle.
            FormatRefused: a file may carry code, or is of no known kind, and is not allowed.
            PackageMissing, AccessDenied, DigestMismatch, SourceUnreachable: see ``Hub``.
        """
        try:
            snapshot = Hub(self.station).snapshot(spec.repository, spec.revision)
        except DefinitionInvalid as fault:
            fault.where = where(("repository",))
            raise
        files = _chosen(snapshot, spec, where)
        self.left_out = frozenset(file.path for file in snapshot.files) - {file.path for file in files}
        _check_formats(files, spec, where)
        digests = self._digests(snapshot, [file for file in files if not file.sha256])
        licence = spec.licence or snapshot.licence or UNKNOWN
        return [_artefact(snapshot, file, file.sha256 or digests[file.path], licence) for file in files]

    def fetch(self, artefacts: Sequence[Artefact]) -> None:
        """Bring the locked files into the store, several at a time; errors as of ``Hub.download``."""
        # Longest first, so that no connection ends alone with the biggest file.
        queue = sorted(self.missing(artefacts), key=lambda file: -file.size)
        together([partial(self._fetch, file) for file in queue], _CONNECTIONS, self.station.stop)

    def describe(self, artefacts: Sequence[Artefact]) -> list[Artefact]:
        """The same, if the files are what their names say.

        Raises:
            FormatRefused: a file is something else than its name says.
        """
        for artefact in artefacts:
            if needs(artefact.path):
                continue  # allowed by name; there is nothing to be deceived about
            if wrong := betrays(artefact.path, self.station.store.path(artefact.sha256)):
                raise FormatRefused(
                    f"{artefact.name}: {artefact.path} {wrong}",
                    wanted="what its name says: safetensors, JSON, or text in UTF-8",
                    hint="leave it out with exclude; ask the repository's owner",
                )
        return by_path(artefacts)

    def _fetch(self, artefact: Artefact) -> None:
        hub, origin = Hub(self.station), artefact.origin

        def append(partial_file: BufferedRandom) -> None:
            hub.download(
                origin["repository"], origin["revision"], artefact.path, partial_file, size=artefact.size
            )

        fetch_resuming(self.station, artefact, append)

    def _digests(self, snapshot: Snapshot, files: Sequence[HubFile]) -> dict[str, str]:
        """SHA-256 of files of which the hub knows only Git's digest; they are in the store afterwards."""
        found: dict[str, str] = {}

        def measure(file: HubFile) -> None:
            with self.station.store.scratch() as scratch:
                with scratch.open("w+b") as opened:
                    Hub(self.station).download(
                        snapshot.repository, snapshot.commit, file.path, opened, size=file.size
                    )
                    git_sha1 = _git_blob(opened, file.size)
                if git_sha1 != file.git_sha1:
                    raise DigestMismatch(
                        f"{snapshot.repository}: {file.path} is not the file the hub describes",
                        found=f"git-blob-sha1 {git_sha1}",
                        wanted=f"git-blob-sha1 {file.git_sha1}",
                        hint="try again; if it stays so, find out who answers",
                    )
                found[file.path], _ = self.station.store.add_file(
                    scratch, self.station.stop, name=file.path, beside=self.station.progress.beside
                )

        together([partial(measure, file) for file in files], _CONNECTIONS, self.station.stop)
        return found


def _chosen(snapshot: Snapshot, spec: HuggingFace, where: Where) -> list[HubFile]:
    """The files that the patterns mean, sorted by path; Git's own files only if they are asked for."""
    for index, pattern in enumerate(spec.include):
        if not any(fnmatchcase(file.path, pattern) for file in snapshot.files):
            raise DefinitionInvalid(
                f"{pattern} matches no file of {spec.repository}", where=where(("include", index))
            )
    signature = spec.signature.file if spec.signature else None
    files = [
        file
        for file in sorted(snapshot.files, key=lambda file: file.path)
        if file.path == signature
        or (
            any(fnmatchcase(file.path, pattern) for pattern in spec.include or ("[!.]*",))
            and not any(fnmatchcase(file.path, pattern) for pattern in spec.exclude)
        )
    ]
    if signature and all(file.path != signature for file in files):
        raise DefinitionInvalid(
            f"{spec.repository} holds no such signature",
            found=signature,
            hint="name the file as the repository does, or leave signature out",
            where=where(("signature", "file")),
        )
    if not files:
        raise DefinitionInvalid(
            f"nothing of {spec.repository} is left to carry",
            found=f"{len(snapshot.files)} files, none of which include and exclude leave",
            where=where(("repository",)),
        )
    for file in files:
        try:
            check_path(file.path)
        except BundleMalformed as fault:
            raise DefinitionInvalid(
                fault.message,
                wanted=fault.wanted,
                hint="leave it out with exclude",
                where=where(("repository",)),
            ) from fault
    return files


def _check_formats(files: Sequence[HubFile], spec: HuggingFace, where: Where) -> None:
    """Refuse what may carry code unless the definition allows its kind; the files say which and why."""
    signature = spec.signature.file if spec.signature else None  # read by nothing but the check of it
    refused = {
        file.path: kind
        for file in files
        if (kind := needs(file.path)) and kind not in spec.allow and file.path != signature
    }
    if not refused:
        return
    first, kind = next(iter(refused.items()))
    same = [path for path, other in refused.items() if other == kind]
    raise FormatRefused(
        f"{spec.repository}: {first} {WHY[kind]}",
        found=", ".join(same[:_NAMED])
        + (f" and {len(same) - _NAMED} others" if len(same) > _NAMED else ""),
        wanted="safetensors and text, or what the definition allows",
        hint=f"leave such files out with exclude, or allow them with allow: [{kind}]",
        where=where(("repository",)),
    )


def _artefact(snapshot: Snapshot, file: HubFile, sha256: str, licence: str) -> Artefact:
    said: dict[OriginKey, str | None] = {
        "gated": snapshot.gated,
        "task": snapshot.task,
        "architectures": snapshot.architectures,
    }
    return Artefact(
        path=file.path,
        name=snapshot.repository,
        version=snapshot.commit,
        size=file.size,
        sha256=sha256,
        licence=licence,
        origin={
            "kind": "huggingface",
            "repository": snapshot.repository,
            "revision": snapshot.commit,
            "upstream": "sha256" if file.sha256 else f"git-blob-sha1:{file.git_sha1}",
            **{key: value for key, value in said.items() if value},
        },
    )


def _git_blob(file: BufferedRandom, size: int) -> str:
    """Git's name for the bytes: SHA-1 with a header before them (git-hash-object)."""
    digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    file.seek(0)
    while piece := file.read(_READ):
        digest.update(piece)
    return digest.hexdigest()
