"""The image registry of this station: manifests and blobs by digest (OCI distribution specification 1.1).

oras knows where credentials are kept (Docker's configuration and its helpers) and how a registry wants
to see them.  It neither resumes nor compares, and hands manifests on parsed, without the bytes that the
digest is of; so the bytes are fetched by our own downloads.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests
from oras.auth import get_auth_backend  # type: ignore[import-untyped]  # oras carries no types
from oras.auth.utils import parse_auth_header  # type: ignore[import-untyped]  # as above
from oras.container import Container  # type: ignore[import-untyped]  # as above
from oras.logger import logger  # type: ignore[import-untyped]  # as above

from appliance.errors import (
    AccessDenied,
    ApplianceError,
    DigestMismatch,
    ImageRefused,
    PackageMissing,
    SettingsInvalid,
)
from appliance.sources.http_download import HttpDownloader, HttpRefused
from appliance.sources.oci_manifest import INDEX_TYPES, MANIFEST_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BufferedRandom

    from appliance.sources.http_download import Document
    from appliance.sources.station import Station

NAME: Final = "the image registry"
_ACCEPT: Final = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))
_TIMEOUT: Final = (15, 60)  # seconds: to connect, and for a token to come

logger.logger.setLevel(logging.CRITICAL)  # what oras tells on stderr becomes an error of ours


class Access:
    """The right to read one repository: none at first, then what the registry asks for.  For all threads.

    A token is for one repository; Basic credentials are sent only if the registry asks for them.
    """

    def __init__(self, registry: str) -> None:
        self._registry = urlsplit(registry)
        self._lock = threading.Lock()
        self._shown: dict[str, str] = {}

    def headers(self) -> Mapping[str, str]:
        return self._shown

    def renew(self, answer: requests.Response) -> bool:
        """Answer a challenge (RFC 9110, section 11; Docker's token specification).

        Only the registry's own: storage that it redirects to has no say in where credentials go.
        """
        if urlsplit(answer.url).netloc != self._registry.netloc:
            return False
        with self._lock:
            if answer.request.headers.get("Authorization") != self._shown.get("Authorization"):
                return True  # another thread has renewed it meanwhile
            header = self._authorization(answer)
            self._shown = {"Authorization": header} if header else {}
            return header is not None

    def _authorization(self, answer: requests.Response) -> str | None:
        challenge = answer.headers.get("WWW-Authenticate", "")
        basic = challenge.lower().startswith("basic")
        backend = get_auth_backend(
            "basic" if basic else "token", _Session(), insecure=self._registry.scheme == "http"
        )
        self._load_credentials(backend)
        if basic:
            known = getattr(backend, "_basic_auth", None)
            return f"Basic {known}" if known else None
        realm = str(parse_auth_header(challenge).realm)
        if urlsplit(realm).scheme not in {"https", self._registry.scheme}:
            return None  # a token over a line that anybody reads is none
        try:
            shown, changed = backend.authenticate_request(answer, {}, refresh=True)
        except (requests.RequestException, ValueError):
            return None
        return str(shown["Authorization"]) if changed else None

    def _load_credentials(self, backend: Any) -> None:
        """What ``docker login`` (or podman's, in the same form) left for this registry."""
        folder = os.environ.get("DOCKER_CONFIG")
        configs = [f"{folder}/config.json"] if folder else []
        try:
            backend.load_configs(Container("image", registry=self._registry.netloc), configs)
        except (ValueError, AttributeError, OSError) as fault:
            raise SettingsInvalid(
                "the file with this station's registry credentials cannot be read",
                found=type(fault).__name__,
                wanted="config.json as docker login writes it (DOCKER_CONFIG names its folder)",
            ) from fault


class OciRegistry:
    """One repository of the station's registry.  One per thread."""

    def __init__(self, station: Station, repository: str, access: Access | None = None) -> None:
        address = station.settings.oci.registry
        if address is None:
            raise SettingsInvalid(
                "this station knows no image registry",
                wanted="its address, in APPLIANCE_OCI_REGISTRY or as oci.registry in station.yaml",
            )
        self._base = f"{address}/v2/{repository}"
        self._repository = repository
        self._http = HttpDownloader(station, NAME, access=access or Access(address))

    def manifest(self, digest: str, limit: int) -> Document:
        """An index or manifest, compared with its digest.

        Raises:
            PackageMissing: the registry does not have it.
            AccessDenied: it does not give it to this station.
            ImageRefused: it is longer than ``limit`` bytes.
            DigestMismatch: it sends something else.
            SourceUnreachable: it does not answer.
        """
        return self._document("manifests", digest, limit, _ACCEPT)

    def blob(self, digest: str, limit: int) -> bytes:
        """A small blob; errors as of ``manifest``."""
        return self._document("blobs", digest, limit, "*/*").data

    def download(self, part: str, digest: str, partial: BufferedRandom, *, size: int) -> None:
        """Append what is missing of a blob or manifest to ``partial``; errors as of ``manifest``."""
        kind = "manifests" if part in {"index", "manifest"} else "blobs"
        name = f"{self._repository}: {part} {digest[:19]}"
        accept = _ACCEPT if kind == "manifests" else "*/*"
        try:
            self._http.append(f"{self._base}/{kind}/{digest}", partial, name=name, size=size, accept=accept)
        except HttpRefused as fault:
            raise self._refused(name, fault) from fault

    def _document(self, kind: str, digest: str, limit: int, accept: str) -> Document:
        what = f"{self._repository}@{digest[:19]}"
        try:
            document = self._http.read(f"{self._base}/{kind}/{digest}", limit=limit, accept=accept)
        except HttpRefused as fault:
            raise self._refused(what, fault) from fault
        if len(document.data) > limit:
            raise ImageRefused(f"{what} is too large", found=f"more than {limit:,} bytes")
        found = f"sha256:{hashlib.sha256(document.data).hexdigest()}"
        if found != digest:
            raise DigestMismatch(
                f"{NAME} sends another {kind.removesuffix('s')} than {what}",
                found=found,
                wanted=digest,
                hint="find out who answers; a digest never means other bytes",
            )
        return document

    def _refused(self, what: str, fault: HttpRefused) -> ApplianceError:
        if fault.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return AccessDenied(
                f"{NAME} does not give {what} to this station",
                found=f"HTTP status {fault.status}",
                wanted="the name of a public repository, or credentials that open it",
                hint="check the name, then log in with docker login, podman login or a credential helper",
            )
        if fault.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            return PackageMissing(
                f"{NAME} does not have {what}",
                found=f"HTTP status {fault.status}",
                hint="check repository and digest; registries delete what no tag names",
            )
        return self._http.unreachable(self._base, str(fault))


class _Session(requests.Session):
    """Asks for tokens, with an end to waiting: oras sets none."""

    def request(self, *args: Any, **settings: Any) -> requests.Response:
        return super().request(*args, **{"timeout": _TIMEOUT, **settings})
