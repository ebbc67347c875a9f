"""What a definition may ask for: one class for each kind of component; ``kind`` tells them apart.

Names, digests and globs, never an address: where to look, each build station's settings say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003 - pydantic reads it at run time
from typing import TYPE_CHECKING, Annotated, Final, Literal

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from appliance.definition.names import FilePath, Frozen, Sha256

if TYPE_CHECKING:
    from typing import Self

MODEL_FILE = "tiny.gguf"
"""The file a ``tiny-gguf`` component consists of."""

_NOT_A_TAG: Final = "an image is named by its digest: a tag can be moved to other bytes at any time"


def _is_plain_requirement(text: str) -> str:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as fault:
        raise ValueError(f"not a requirement: {str(fault).splitlines()[0]}") from fault
    if requirement.url:
        raise ValueError("a requirement names a project, not an address")
    return text


def _is_model_repository(text: str) -> str:
    # huggingface_hub, validate_repo_id
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?", text):
        raise ValueError("a repository is named organisation/name, without an address")
    if "--" in text or ".." in text or text.endswith((".", "-", ".git")):
        raise ValueError("no repository can have this name")
    return text


def _is_revision(text: str) -> str:
    # git-check-ref-format(1), as far as names go that people give
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/+-]*", text) or ".." in text or text.endswith(("/", ".")):
        raise ValueError("a revision is a commit (40 hex digits), a branch or a tag")
    return text


def _is_glob(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._+~@=/*?\[\]!-]+", text) or text.startswith("/") or ".." in text:
        raise ValueError("a pattern of paths within the repository: letters, digits, ._+~@=-/ and * ? [ ]")
    return text


def _is_image_repository(text: str) -> str:
    # OCI distribution specification 1.1, "Pulling manifests"; a host's name would have a dot or a port
    if "@" in text or ":" in text.rpartition("/")[2]:
        raise ValueError(f"the repository's name alone; {_NOT_A_TAG}, and it has a key of its own")
    part = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
    if not re.fullmatch(rf"{part}(?:/{part})*", text):
        raise ValueError("a repository is a path of small letters and digits, without an address")
    return text


def _is_image_digest(text: str) -> str:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        raise ValueError(f"{_NOT_A_TAG}; write sha256: and 64 hex digits")
    return text


Licence = Annotated[str, StringConstraints(pattern=r"^[ -~]+$", max_length=200)]
RequirementText = Annotated[str, StringConstraints(max_length=500), AfterValidator(_is_plain_requirement)]
# Debian Policy, section 5.6.7.
DebianPackage = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+$", max_length=100)]
ArchiveArea = Literal["main", "contrib", "non-free", "non-free-firmware"]
# The name that a station's settings give to a repository of another maker.
RepositoryName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
# Names of packages and their versions (Policy, 5.6.12), with globs, as apt_preferences(5) compares them.
# An asterisk alone is another thing to apt, which then passes over versions.
PackageGlob = Annotated[
    str, StringConstraints(pattern=r"^(?:[a-z0-9?]|\*[a-z0-9+.*?-])[a-z0-9+.*?-]*$", max_length=100)
]
VersionGlob = Annotated[str, StringConstraints(pattern=r"^[0-9][A-Za-z0-9.+~:*?-]*$", max_length=100)]
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=512)]
ModelRepository = Annotated[str, StringConstraints(max_length=96), AfterValidator(_is_model_repository)]
Revision = Annotated[str, StringConstraints(max_length=200), AfterValidator(_is_revision)]
Glob = Annotated[str, StringConstraints(max_length=200), AfterValidator(_is_glob)]
ImageRepository = Annotated[str, StringConstraints(max_length=255), AfterValidator(_is_image_repository)]
ImageDigest = Annotated[str, AfterValidator(_is_image_digest)]
# OCI image specification 1.1, image-index: os/architecture, and a variant where there is one.
Platform = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]+/[a-z0-9]+(?:/[a-z0-9.]+)?$", max_length=64)
]

# Those this program runs on (pyproject.toml, requires-python).
ControllerPython = Literal["3.11", "3.12", "3.13", "3.14"]


class TinyGguf(Frozen):
    """A model generated from the definition alone; it answers with ``sentence``."""

    kind: Literal["tiny-gguf"]
    sentence: Sentence
    licence: Licence


class Python(Frozen):
    """Wheels: ``requirements`` and all they need, for the node's Python."""

    kind: Literal["python"]
    requirements: Annotated[tuple[RequirementText, ...], Field(min_length=1)]


class Debian(Frozen):
    """Debian packages: ``packages`` and all they depend on, from nothing.

    ``areas`` are the archive areas they may come from (Debian Policy, section 2.2), which apt calls
    components; left out, those that the station itself uses.  ``backports`` are those of ``packages`` that
    come from the suite's backports, and with them what only these need in newer versions.

    ``repositories`` are asked beside Debian's archive: names, for which each station's settings have an
    address and a keyring.  ``versions`` says which versions of which packages are looked at, both as globs,
    where a repository has several: the newest need not be the one that goes with the rest.
    """

    kind: Literal["debian"]
    packages: Annotated[tuple[DebianPackage, ...], Field(min_length=1)]
    areas: Annotated[tuple[ArchiveArea, ...], Field(min_length=1)] | None = None
    backports: tuple[DebianPackage, ...] = ()
    repositories: tuple[RepositoryName, ...] = ()
    versions: Mapping[PackageGlob, VersionGlob] = {}

    @model_validator(mode="after")
    def _backports_are_asked_for(self) -> Self:
        if others := sorted(set(self.backports) - set(self.packages)):
            raise ValueError(f"backports names what packages does not: {', '.join(others)}")
        return self


class MakersSignature(Frozen):
    """A model's signature by its makers (OpenSSF Model Signing): a file of the component.

    ``key`` is a public key in PEM, ``authority`` the certificate of an authority in PEM; one of them, in
    the definition's folder, is what it is checked with, and ``sha256`` is that of this file.  With neither,
    the signature is carried and called unchecked.
    """

    file: FilePath
    key: FilePath | None = None
    authority: FilePath | None = None
    sha256: Sha256 | None = None

    @property
    def anchor(self) -> tuple[str, FilePath] | None:
        """What it is checked with: ``key`` or ``authority``, and the file."""
        for name, path in (("key", self.key), ("authority", self.authority)):
            if path is not None:
                return name, path
        return None

    @model_validator(mode="after")
    def _one_anchor(self) -> Self:
        if self.key is not None and self.authority is not None:
            raise ValueError("a signature is by a key or by a certificate: name key or authority, not both")
        if self.sha256 is not None and self.anchor is None:
            raise ValueError("sha256 is that of the file of key or authority, and neither is named")
        return self


class PlainFile(Frozen):
    """One file; ``path`` is relative to the definition, and to the component on the medium.

    ``size`` (bytes) may be left out; given, a file of another length is refused before it is read.
    """

    path: FilePath
    sha256: Sha256
    size: Annotated[int, Field(ge=0)] | None = None
    licence: Licence


class Files(Frozen):
    """Plain files beside the definition."""

    kind: Literal["files"]
    files: Annotated[tuple[PlainFile, ...], Field(min_length=1)]
    signature: MakersSignature | None = None


Allowed = Literal["pickle", "code", "gguf", "other"]
"""What a model repository may hold beside safetensors and text only if the definition says so."""


class HuggingFace(Frozen):
    """Files of a model repository at one revision; a branch or tag is locked to its commit.

    ``include`` and ``exclude`` are globs over paths in the repository (``*`` crosses ``/``); without
    ``include`` all files are meant.  ``allow`` names what may be taken beside safetensors and text.  The
    file of ``signature`` is always taken.
    """

    kind: Literal["huggingface"]
    repository: ModelRepository
    revision: Revision
    include: tuple[Glob, ...] = ()
    exclude: tuple[Glob, ...] = ()
    allow: tuple[Allowed, ...] = ()
    licence: Licence | None = None
    signature: MakersSignature | None = None


class Image(Frozen):
    """One image, by digest: of its manifest, or of an index that has one for ``platform``."""

    repository: ImageRepository
    digest: ImageDigest
    platform: Platform | None = None
    licence: Licence | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_tag(cls, values: object) -> object:
        # Said before all else: "digest is missing" would not tell why.
        if isinstance(values, dict) and "tag" in values:
            raise ValueError(f"{_NOT_A_TAG}; look the digest up and write it under the key digest")
        return values


class Oci(Frozen):
    """Container images, kept together as one OCI image layout."""

    kind: Literal["oci"]
    images: Annotated[tuple[Image, ...], Field(min_length=1)]


class Toolkit(Frozen):
    """This program, its playbooks and roles, and the wheels it needs on computers with these Pythons."""

    kind: Literal["toolkit"]
    pythons: Annotated[tuple[ControllerPython, ...], Field(min_length=1)] = ("3.11", "3.12", "3.13")


Component = Annotated[
    TinyGguf | Python | Debian | Files | HuggingFace | Oci | Toolkit, Field(discriminator="kind")
]
