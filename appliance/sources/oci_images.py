"""Components of kind ``oci``: container images by digest, as one OCI image layout.

``oci-layout``, ``index.json`` and ``blobs/sha256/…`` (OCI image specification 1.1, image-layout).  Of an
index only the manifest for the asked platform is carried; the index itself is kept among the blobs, so
that the digest in the definition can be followed to every byte.  ``index.json`` is made from the locked
manifests, so building needs no resolution.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Final

from appliance.definition.lock import Artefact
from appliance.errors import DefinitionInvalid, ImageRefused, PackageMissing
from appliance.sources.http_download import fetch_resuming
from appliance.sources.kinds import UNKNOWN, Source, by_path
from appliance.sources.oci_manifest import (
    INDEX_TYPES,
    LICENCES,
    MAX_CONFIG,
    MAX_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    choose,
    fits,
    media_type,
    parse_configuration,
    parse_index,
    parse_manifest,
)
from appliance.sources.oci_registry import Access, OciRegistry
from appliance.sources.together import together

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedRandom

    from appliance.definition.components import Image, Oci
    from appliance.sources.kinds import Where

LAYOUT: Final = "oci-layout"
INDEX: Final = "index.json"
GENERATOR: Final = "oci-layout 1"
_REFERENCE: Final = "org.opencontainers.image.ref.name"
_CONNECTIONS: Final = 4  # blobs fetched at the same time


class OciImages(Source):
    """Images from this station's registry."""

    def resolve(self, spec: Oci, where: Where) -> list[Artefact]:
        """All blobs of the images; what is small is read, compared and kept already.

        Raises:
            PackageMissing: the registry does not have an image.
            DefinitionInvalid: two entries mean the same image.
            ImageRefused, AccessDenied, DigestMismatch, SourceUnreachable, SettingsInvalid: see
                ``OciRegistry`` and ``appliance.sources.oci_manifest``.
        """
        blobs: dict[str, Artefact] = {}
        manifests: set[str] = set()
        for index, image in enumerate(spec.images):
            try:
                parts = list(self._parts(image))
            except (PackageMissing, ImageRefused) as fault:
                fault.where = where(("images", index))
                raise
            manifest = next(part.path for part in parts if part.origin["part"] == "manifest")
            if manifest in manifests:
                raise DefinitionInvalid(
                    f"{image.repository} {image.digest[:19]} is an image that is listed already",
                    where=where(("images", index)),
                )
            manifests.add(manifest)
            for part in parts:
                blobs.setdefault(part.path, part)
        return list(blobs.values())

    def fetch(self, artefacts: Sequence[Artefact]) -> None:
        """Bring the locked blobs into the store, several at a time, and make the layout from them."""
        missing = self.missing(artefacts)
        absent = [artefact for artefact in missing if artefact.origin["kind"] == "oci"]
        accesses = {
            repository: Access(self.station.settings.oci.registry or "")
            for repository in {artefact.origin["repository"] for artefact in absent}
        }
        # Longest first, so that no connection ends alone with the biggest layer.
        queue = sorted(absent, key=lambda blob: -blob.size)
        tasks = [partial(self._fetch, blob, accesses[blob.origin["repository"]]) for blob in queue]
        together(tasks, _CONNECTIONS, self.station.stop)
        for artefact in missing:
            if artefact.path == LAYOUT:
                self.keep_again(artefact, _layout())
            elif artefact.path == INDEX:
                self.keep_again(artefact, self._index(artefacts))

    def describe(self, artefacts: Sequence[Artefact]) -> list[Artefact]:
        """With ``oci-layout`` and ``index.json``."""
        made = [
            self.keep(path, data, generator=GENERATOR, licence="CC0-1.0")
            for path, data in ((LAYOUT, _layout()), (INDEX, self._index(artefacts)))
        ]
        return by_path([*artefacts, *made])

    def _parts(self, image: Image) -> Iterator[Artefact]:
        """Index (if there is one), manifest, configuration and layers of an image."""
        registry = OciRegistry(self.station, image.repository)
        platform = image.platform or f"linux/{self.target.architecture}"
        what = f"{image.repository}@{image.digest[:19]}"
        found = []
        document = registry.manifest(image.digest, MAX_MANIFEST)
        kind, digest = media_type(document.data, document.media_type, what), image.digest
        if kind in INDEX_TYPES:
            found.append(("index", digest, document.data))
            chosen = choose(parse_index(document.data, what), platform, what)
            digest = chosen.digest
            document = registry.manifest(digest, min(MAX_MANIFEST, chosen.size))
            if media_type(document.data, document.media_type, what) != chosen.media_type:
                raise ImageRefused(f"{what}: the manifest is of another kind than its index says")
        manifest = parse_manifest(document.data, what)
        if manifest.config.size > MAX_CONFIG:
            raise ImageRefused(f"{what}: its configuration is too large", found=f"{manifest.config.size:,}")
        config = registry.blob(manifest.config.digest, manifest.config.size)
        configuration = parse_configuration(config, what)
        if not fits(configuration.platform, platform):
            raise ImageRefused(
                f"{what} is for another platform", found=str(configuration.platform), wanted=platform
            )
        found += [("manifest", digest, document.data), ("config", manifest.config.digest, config)]
        stated = (manifest.annotations or {}).get(LICENCES) or configuration.labels.get(LICENCES)
        licence = image.licence or stated or UNKNOWN
        for part, name, data in found:
            self.station.store.add_bytes(data)
            yield _artefact(image, platform, part=part, digest=name, size=len(data), licence=licence)
        for layer in manifest.layers:
            yield _artefact(
                image, platform, part="layer", digest=layer.digest, size=layer.size, licence=licence
            )

    def _fetch(self, artefact: Artefact, access: Access) -> None:
        registry = OciRegistry(self.station, artefact.origin["repository"], access)

        def append(partial_file: BufferedRandom) -> None:
            digest = f"sha256:{artefact.sha256}"
            registry.download(artefact.origin["part"], digest, partial_file, size=artefact.size)

        fetch_resuming(self.station, artefact, append)

    def _index(self, artefacts: Sequence[Artefact]) -> bytes:
        """``index.json``: the manifests among ``artefacts``, which are in the store, sorted by path."""
        manifests = []
        for artefact in by_path(artefacts):
            if artefact.origin.get("part") != "manifest":
                continue
            origin = artefact.origin
            kind = parse_manifest(self.station.store.path(artefact.sha256).read_bytes(), artefact.name)
            os, architecture, *variant = origin["platform"].split("/")
            manifests.append(
                {
                    "mediaType": kind.media_type or OCI_MANIFEST,
                    "digest": f"sha256:{artefact.sha256}",
                    "size": artefact.size,
                    "platform": {
                        "os": os,
                        "architecture": architecture,
                        **({"variant": variant[0]} if variant else {}),
                    },
                    "annotations": {_REFERENCE: f"{origin['repository']}@{origin['image']}"},
                }
            )
        return _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})


def _artefact(image: Image, platform: str, *, part: str, digest: str, size: int, licence: str) -> Artefact:
    sha256 = digest.removeprefix("sha256:")
    return Artefact(
        path=f"blobs/sha256/{sha256}",
        name=image.repository,
        version=image.digest,
        size=size,
        sha256=sha256,
        licence=licence,
        origin={
            "kind": "oci",
            "repository": image.repository,
            "image": image.digest,
            "platform": platform,
            "part": part,
            "upstream": "sha256",
        },
    )


def _layout() -> bytes:
    return _json({"imageLayoutVersion": "1.0.0"})


def _json(values: object) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
