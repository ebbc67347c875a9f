"""Reading image indexes and manifests: what an image consists of, and which of them fits a platform.

OCI image specification 1.1 (image-index, manifest, descriptor) and Docker's schema 2, which is the same
under other names.  Pure: bytes in, values out; digests were compared before.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.definition.components import ImageDigest  # noqa: TC001 - pydantic reads it at run time
from appliance.errors import ImageRefused

MAX_MANIFEST: Final = 4 << 20
"""Bytes; what registries accept at least (OCI distribution specification 1.1, "Pushing manifests")."""
MAX_CONFIG: Final = 8 << 20
_MAX_LAYERS: Final = 1024

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPES: Final = (OCI_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFEST_TYPES: Final = (OCI_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
_CONFIG_TYPES: Final = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
_LAYER_TYPES: Final = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
)

LICENCES: Final = "org.opencontainers.image.licenses"
"""The annotation, or label of the configuration, that states licences."""


class _Read(BaseModel):
    """What registries send may hold more than we know; what we know must be right."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Platform(_Read):
    """What an image runs on; ``str`` gives os/architecture, and the variant where there is one."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(_Read):
    """A blob by type, digest and size in bytes."""

    media_type: Annotated[str, Field(alias="mediaType")]
    digest: ImageDigest
    size: Annotated[int, Field(ge=0, le=2**53 - 1)]
    platform: Platform | None = None


class Index(_Read):
    """Manifests of one image for several platforms."""

    media_type: Annotated[str | None, Field(alias="mediaType")] = None
    manifests: tuple[Descriptor, ...]


class Manifest(_Read):
    """One image: its configuration, and its layers from the lowest up."""

    media_type: Annotated[str | None, Field(alias="mediaType")] = None
    config: Descriptor
    layers: Annotated[tuple[Descriptor, ...], Field(max_length=_MAX_LAYERS)]
    annotations: dict[str, str] | None = None


class _Settings(_Read):
    labels: Annotated[dict[str, str] | None, Field(alias="Labels")] = None


class Configuration(Platform):
    """What an image's configuration says of where it runs, and its labels."""

    config: _Settings | None = None

    @property
    def platform(self) -> Platform:
        return Platform(os=self.os, architecture=self.architecture, variant=self.variant)

    @property
    def labels(self) -> dict[str, str]:
        return (self.config.labels if self.config else None) or {}


M = TypeVar("M", bound=_Read)


def media_type(data: bytes, said: str, what: str) -> str:
    """The type of an index or manifest: what it says itself; where it is silent, OCI's if that was said.

    Args:
        data: its bytes.
        said: the type its sender gave it.
        what: the image, for messages.

    Raises:
        ImageRefused: neither, or both and they differ, or none known here.
    """

    class Typed(_Read):
        media_type: Annotated[str | None, Field(alias="mediaType")] = None

    own = _parse(data, Typed, what).media_type
    found = own or (said if said in {OCI_INDEX, OCI_MANIFEST} else None)
    if found not in {*INDEX_TYPES, *MANIFEST_TYPES} or (
        own and said in {*INDEX_TYPES, *MANIFEST_TYPES} - {own}
    ):
        raise ImageRefused(
            f"{what} is of no kind of image known here",
            found=f"{own or 'no media type'}, sent as {said or 'nothing'}",
            wanted=", ".join((*INDEX_TYPES, *MANIFEST_TYPES)),
            hint="images of Docker's schema 1 have to be pushed anew; other artefacts are not carried",
        )
    return found


def parse_index(data: bytes, what: str) -> Index:
    """Read an image index; ``what`` names the image in messages."""
    return _parse(data, Index, what)


def parse_manifest(data: bytes, what: str) -> Manifest:
    """Read a manifest whose configuration and layers are of known kinds.

    Raises:
        ImageRefused: it is malformed, no container image, or has layers that lie elsewhere.
    """
    manifest = _parse(data, Manifest, what)
    for descriptor, known in (
        (manifest.config, _CONFIG_TYPES),
        *((layer, _LAYER_TYPES) for layer in manifest.layers),
    ):
        if descriptor.media_type not in known:
            raise ImageRefused(
                f"{what} holds something that is not carried",
                found=f"{descriptor.media_type} ({descriptor.digest})",
                wanted=", ".join(known),
                hint="a foreign layer lies at an address of its own: ask for an image that is whole",
            )
    return manifest


def parse_configuration(data: bytes, what: str) -> Configuration:
    """Read what matters here of an image's configuration."""
    return _parse(data, Configuration, what)


def choose(index: Index, platform: str, what: str) -> Descriptor:
    """The first manifest for ``platform`` (os/architecture[/variant]), as image-index.md asks.

    Raises:
        ImageRefused: there is none, or it is an index again.
    """
    for descriptor in index.manifests:
        if descriptor.platform and fits(descriptor.platform, platform):
            if descriptor.media_type not in MANIFEST_TYPES:
                raise ImageRefused(
                    f"{what}: the entry for {platform} is no manifest", found=descriptor.media_type
                )
            return descriptor
    offered = sorted({str(entry.platform) for entry in index.manifests if entry.platform})
    raise ImageRefused(
        f"{what} has no image for {platform}",
        found=", ".join(offered) or "no platforms",
        hint="name one of these as platform, or another image",
    )


def fits(found: Platform, wanted: str) -> bool:
    """Whether a platform is the one asked for; a variant counts only if one is asked for."""
    os, architecture, *variant = wanted.split("/")
    return (found.os, found.architecture) == (os, architecture) and (
        not variant or found.variant == variant[0]
    )


def _parse(data: bytes, model: type[M], what: str) -> M:
    try:
        return model.model_validate_json(data)
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ImageRefused(f"{what} is malformed at {place}", found=first["msg"]) from fault
