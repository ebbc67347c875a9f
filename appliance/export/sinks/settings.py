"""What an operator writes of the sinks Kafka and S3: one YAML file each; secrets have files of their own.

Files that a settings file names are looked for beside it.  A secret is the contents of its file without
white space around it, and nobody but its owner may read that file.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from appliance.definition.document import Document, read_document, validate_document
from appliance.disk.private_file import read_private
from appliance.errors import SettingsInvalid, Usage
from appliance.export.sinks.pem import client_context

if TYPE_CHECKING:
    from pathlib import Path

#: A host's name, an IPv4 address, or an IPv6 address in brackets; and a port.
_SERVER: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9][A-Za-z0-9._-]{0,252}):([0-9]{1,5})")
_MAX_PORT: Final = 65_535
_MAX_SECRET: Final = 1024
#: Some years more than anybody keeps logs.
_MAX_DAYS: Final = 36_500

Text = Annotated[str, Field(min_length=1, max_length=256)]
S = TypeVar("S", bound="_Settings")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Settings(_Strict):
    format: Literal[1]


class Tls(_Strict):
    """Whom we believe, and who we are: PEM files."""

    authority: Text
    certificate: Text | None = None
    key: Text | None = None


class Sasl(_Strict):
    """How we say who we are."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    user: Text
    password_file: Text


class KafkaSettings(_Settings):
    """Where messages go.  ``tls: none`` says in so many words that anybody on the way can read them."""

    servers: Annotated[list[Text], Field(min_length=1)]
    topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
    tls: Tls | Literal["none"]
    sasl: Sasl | None = None
    compression: Literal["none", "gzip", "lz4", "zstd"] = "lz4"


class Retention(_Strict):
    """How long nobody may remove an object, and whether anybody may lift that."""

    mode: Literal["COMPLIANCE", "GOVERNANCE"]
    days: Annotated[int, Field(ge=1, le=_MAX_DAYS)]


class S3Settings(_Settings):
    """Where objects go."""

    endpoint: Text
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    prefix: Annotated[str, Field(pattern=r"^(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*$", max_length=256)] = ""
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")] = "us-east-1"
    addressing: Literal["path", "virtual"] = "path"
    authority: Text | None = None
    access_key: Text
    secret_key_file: Text
    retention: Retention
    every: Annotated[int, Field(ge=1, le=86_400)] = 60


def read_kafka_settings(path: Path) -> tuple[KafkaSettings, str | None]:
    """The settings with names of files made whole, and the password.

    Raises:
        Usage: a file is not there, or no PEM, or others may read a secret.
        SettingsInvalid: malformed, or they contradict themselves; with the place.
    """
    settings, document = _read(path, KafkaSettings)
    if settings.topic in {".", ".."}:
        raise SettingsInvalid(
            "not a topic", found=settings.topic, wanted="a name", where=document.where(("topic",))
        )
    for place, server in enumerate(settings.servers):
        found = _SERVER.fullmatch(server)
        if not found or not 0 < int(found[1]) <= _MAX_PORT:
            raise SettingsInvalid(
                "not a server", found=server, wanted="HOST:PORT", where=document.where(("servers", place))
            )
    tls = settings.tls
    if isinstance(tls, Tls):
        if (tls.certificate is None) != (tls.key is None):
            raise SettingsInvalid(
                "certificate and key go together", wanted="both, or neither", where=document.where(("tls",))
            )
        named = tls.model_dump(exclude_none=True)
        tls = tls.model_copy(update={name: str(_there(path, each)) for name, each in named.items()})
        client_context(tls.authority, tls.certificate, tls.key)
    if settings.sasl is None:
        return settings.model_copy(update={"tls": tls}), None
    if tls == "none" and settings.sasl.mechanism == "PLAIN":
        raise SettingsInvalid(
            "a password would leave in the clear",
            found="mechanism PLAIN, and tls none",
            wanted="tls, or a mechanism SCRAM-SHA-…",
            where=document.where(("sasl", "mechanism")),
        )
    return settings.model_copy(update={"tls": tls}), _secret(path, settings.sasl.password_file)


def read_s3_settings(path: Path) -> tuple[S3Settings, str]:
    """The settings with names of files made whole, and the secret key; raises as for Kafka."""
    settings, document = _read(path, S3Settings)
    where = document.where(("endpoint",))
    try:
        parts = urlsplit(settings.endpoint)
        host, port = parts.hostname or "", parts.port
    except ValueError as fault:
        raise SettingsInvalid("not an address", found=str(fault), where=where) from fault
    if not host or port == 0 or parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        raise SettingsInvalid(
            "not an address of a server", found=settings.endpoint, wanted="https://HOST:PORT", where=where
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise SettingsInvalid(
            "what is exported would leave in the clear",
            found=settings.endpoint,
            wanted="https://…; http only to an address of this machine, such as 127.0.0.1",
            where=where,
        )
    if settings.authority is not None:
        authority = _there(path, settings.authority)
        client_context(authority)
        settings = settings.model_copy(update={"authority": str(authority)})
    return settings, _secret(path, settings.secret_key_file)


def _read(path: Path, kind: type[S]) -> tuple[S, Document]:
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as fault:
        raise Usage(f"{path} cannot be read", found=fault.strerror) from fault
    document = read_document(text, path, SettingsInvalid)
    return validate_document(document, kind, SettingsInvalid), document


def _there(settings: Path, name: str) -> Path:
    path = settings.parent / name
    if not path.is_file():
        raise Usage(f"there is no file {path}", wanted=f"what {settings} names")
    return path


def _secret(settings: Path, name: str) -> str:
    path = _there(settings, name)
    try:
        found = read_private(path).decode("utf-8").strip()
    except UnicodeDecodeError as fault:
        raise Usage(f"{path} holds no text") from fault
    if not found or len(found) > _MAX_SECRET or not re.fullmatch(r"[ -~]+", found):
        raise Usage(
            f"{path} holds no secret",
            found=f"{len(found):,} characters",
            wanted=f"one line of 1 to {_MAX_SECRET:,} printable characters",
        )
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
