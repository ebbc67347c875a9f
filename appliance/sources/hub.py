"""The model hub, as this station is configured to reach it: descriptions by huggingface_hub, bytes by us.

huggingface_hub knows the hub's interface and where tokens are kept; our own downloads resume within one
run, count and compare.  A token is read where huggingface_hub reads it (``HF_TOKEN``, or its login), sent
to the hub alone, and written nowhere.
"""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass
from functools import partial as partial_call
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import httpx2
from huggingface_hub import HfApi, constants, get_token, set_client_factory
from huggingface_hub.errors import HfHubHTTPError

from appliance.errors import (
    AccessDenied,
    ApplianceError,
    DigestMismatch,
    PackageMissing,
    SourceUnreachable,
)
from appliance.sources.http_download import (
    BUSY,
    UNTRUSTED,
    HttpDownloader,
    HttpRefused,
    retry_after,
)
from appliance.sources.http_transfer import Broken, Patience
from appliance.sources.model_description import architectures, licence, task
from appliance.sources.stopping import awaited

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BufferedRandom

    from huggingface_hub.hf_api import ModelInfo, RepoSibling
    from requests import Response

    from appliance.sources.station import Station

NAME: Final = "the model hub"
_SECONDS: Final = 60.0  # for a description
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubFile:
    """One file of a repository: its size in bytes, and the digest the hub publishes.

    ``sha256`` is known of files in large file storage, ``git_sha1`` (of Git's blob) of the others.
    """

    path: str
    size: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit, and what the hub says of the model in it.

    ``gated``: "auto" or "manual", who gives consent; None: nobody.  ``task`` and ``architectures`` are
    None where the hub has none, or none that is a name.
    """

    repository: str
    commit: str
    gated: str | None
    licence: str | None
    task: str | None
    architectures: str | None
    files: tuple[HubFile, ...]


class Hub:
    """The hub of a station.  One per thread."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._endpoint = station.settings.huggingface.endpoint or constants.ENDPOINT
        self._token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
        self._http = HttpDownloader(station, NAME, access=_Bearer(self._token))

    def snapshot(self, repository: str, revision: str) -> Snapshot:
        """What a repository holds at a revision, which may be a commit, a branch or a tag.

        Raises:
            PackageMissing: there is no such repository or revision.
            AccessDenied: it is gated or private, and this station's token does not open it.
            DigestMismatch: the hub answers with another commit than the one asked for.
            SourceUnreachable: the hub does not answer, or not sensibly.
        """
        info = self._info(repository, revision)
        commit = info.sha or ""
        if not _COMMIT.fullmatch(commit) or info.siblings is None:
            raise self._senseless(f"no commit or no list of files for {repository}")
        if _COMMIT.fullmatch(revision) and commit != revision:
            raise DigestMismatch(
                f"{NAME} has another commit of {repository} than the one asked for",
                found=commit,
                wanted=revision,
                hint="a commit never changes: find out who answers",
            )
        return Snapshot(
            repository=repository,
            commit=commit,
            gated=info.gated or None,
            licence=licence(info),
            task=task(info),
            architectures=architectures(info),
            files=tuple(self._file(entry) for entry in info.siblings),
        )

    def download(
        self, repository: str, commit: str, path: str, partial: BufferedRandom, *, size: int
    ) -> None:
        """Append what is missing of a file to ``partial``; errors as of ``snapshot``."""
        url = f"{self._endpoint}/{repository}/resolve/{commit}/{quote(path)}"
        try:
            self._http.append(url, partial, name=f"{repository}: {path}", size=size)
        except HttpRefused as fault:
            what = f"{path} of {repository} at {commit[:12]}"
            raise self._refused(what, fault.status, fault.headers) from fault

    def _info(self, repository: str, revision: str) -> ModelInfo:
        """The description, over as many tries as a file would get."""
        if constants.is_offline_mode():
            raise SourceUnreachable(
                f"{NAME} must not be asked", found="HF_HUB_OFFLINE is set", hint="unset it, or use a lock"
            )
        api, patience = HfApi(endpoint=self._endpoint, token=self._token or False), Patience(self._station)
        ask = partial_call(
            api.model_info, repository, revision=revision, files_metadata=True, timeout=_SECONDS
        )
        while True:
            try:
                return awaited(ask, self._station.stop)
            except HfHubHTTPError as fault:
                status, headers = fault.response.status_code, fault.response.headers
                if status not in BUSY and status < HTTPStatus.INTERNAL_SERVER_ERROR:
                    what = f"{repository} at revision {revision}"
                    raise self._refused(what, status, headers) from None
                broken = Broken(f"HTTP status {status}", retry_after(headers.get("Retry-After")))
            except httpx2.HTTPError as fault:
                if _untrusted(fault):
                    raise self._http.unreachable(self._endpoint, UNTRUSTED) from fault
                broken = Broken(type(fault).__name__)
            except (ValueError, KeyError, TypeError, AttributeError) as fault:
                raise self._senseless(f"{type(fault).__name__} while reading its answer") from fault
            if not patience.another(broken, 0):
                raise self._http.unreachable(self._endpoint, str(broken))

    def _file(self, entry: RepoSibling) -> HubFile:
        sha256 = entry.lfs.sha256 if entry.lfs else None
        git_sha1 = None if sha256 else entry.blob_id
        sound = _SHA256.fullmatch(sha256) if sha256 else _COMMIT.fullmatch(git_sha1 or "")
        size = entry.lfs.size if entry.lfs else entry.size
        if not sound or not isinstance(size, int) or size < 0:
            raise self._senseless(f"no size or digest of {entry.rfilename[:200]!a}")
        return HubFile(entry.rfilename, size, sha256, git_sha1)

    def _refused(self, what: str, status: int, headers: Mapping[str, str]) -> ApplianceError:
        """What a refusal means; the hub says it in ``X-Error-Code``."""
        code = headers.get("X-Error-Code", "")
        token = "the token that is set" if self._token else "no token"
        if code == "GatedRepo":
            return AccessDenied(
                f"{what} is gated: its owner wants consent",
                found=token,
                wanted="a token of an account that was given access",
                hint="ask for access on the repository's page, then set HF_TOKEN",
            )
        if code in {"RevisionNotFound", "EntryNotFound", "RepoNotFound"} and status == HTTPStatus.NOT_FOUND:
            part = {"RevisionNotFound": "revision", "EntryNotFound": "file"}.get(code, "repository")
            return PackageMissing(
                f"{NAME} does not have {what}",
                found=f"no such {part}",
                hint="it was moved, renamed or withdrawn: correct the definition and lock again",
            )
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return AccessDenied(
                f"{NAME} does not give {what} to this station",
                found=f"HTTP status {status} with {token}",
                wanted="the name of a public repository, or a token that opens it",
                hint="check the name (of what does not exist the hub says the same), then set HF_TOKEN",
            )
        if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            return PackageMissing(f"{NAME} does not have {what}", found=f"HTTP status {status}")
        return self._http.unreachable(self._endpoint, f"HTTP status {status}")

    def _senseless(self, found: str) -> SourceUnreachable:
        return SourceUnreachable(
            f"{NAME} does not answer as a hub does",
            found=found,
            hint="check the setting huggingface.endpoint of this station",
        )


class _Bearer:
    """Access by a token that cannot be renewed."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def renew(self, answer: Response) -> bool:
        return False


def _client() -> httpx2.Client:
    """huggingface_hub's connections, trusting the same authorities as our downloads do."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if not bundle:
        return httpx2.Client(follow_redirects=True)
    context = ssl.create_default_context()
    place = Path(bundle)
    context.load_verify_locations(*((None, place) if place.is_dir() else (place, None)))
    return httpx2.Client(follow_redirects=True, verify=context)


def _untrusted(fault: BaseException | None) -> bool:
    """Whether a certificate is what a connection failed for; trying again would not help."""
    while fault and not isinstance(fault, ssl.SSLCertVerificationError):
        fault = fault.__cause__ or fault.__context__
    return fault is not None


set_client_factory(_client)
# Asked for a header, the library would otherwise ask the public hub for a list of programs to look for
# on this machine, whatever endpoint is configured.
constants.HF_HUB_DISABLE_TELEMETRY = True
