"""A bucket of S3 with Object Lock as a store: what is there cannot be removed or altered until its day.

An object is put on the condition that its name is free, with its SHA-256, which the server compares, and
with how long it is to be kept.  What the server says afterwards decides, not that it took the request: an
object is there once the server names its SHA-256, its mode and a day that is far enough away.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import time
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import ExportSinkUnready, SettingsInvalid, ToolMissing, Usage
from appliance.export.sinks.pause import Pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.export.sinks.objects import LogObject
    from appliance.export.sinks.settings import S3Settings

#: Seconds; whoever stops the receiver waits as long as this for a server that says nothing.
_CONNECT: Final = 5
_READ: Final = 20
#: By how much the server's clock may differ from ours.
_SLACK: Final = dt.timedelta(hours=1)
_TAKEN: Final = 412  # Precondition Failed: the name is taken


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class S3Store:
    """One bucket, for all nodes.

    Args:
        settings: which, and how long objects are kept there.
        secret: the secret key.
        now: the time of day.
        clock: seconds that never go back.

    Raises:
        ToolMissing: the program is here without the client for S3.
        SettingsInvalid: the client takes the endpoint for no address.
        Usage: what the environment says of the client is malformed.
    """

    def __init__(
        self,
        settings: S3Settings,
        secret: str,
        now: Callable[[], dt.datetime] = _now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            import boto3  # type: ignore[import-untyped]  # it has no types
            from botocore.config import Config  # type: ignore[import-untyped]  # as above
            from botocore.exceptions import (  # type: ignore[import-untyped]  # as above
                BotoCoreError,
                ClientError,
            )
        except ImportError as fault:
            raise ToolMissing(
                "this installation has no client for S3",
                found=str(fault),
                hint="install the program with its extra: pip install 'appliance[s3]'",
            ) from fault
        self._settings, self._now = settings, now
        self._refused, self._broken = ClientError, BotoCoreError
        self._pause = Pause(clock)
        self._client: Any
        try:
            self._client = boto3.session.Session().client(
                "s3",
                endpoint_url=settings.endpoint,
                region_name=settings.region,
                aws_access_key_id=settings.access_key,
                aws_secret_access_key=secret,
                verify=settings.authority or True,
                config=Config(
                    connect_timeout=_CONNECT,
                    read_timeout=_READ,
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    proxies={},
                    s3={"addressing_style": settings.addressing},
                ),
            )
        except ValueError as fault:  # its own idea of what a host's name is
            raise SettingsInvalid(
                "not an address of a server", found=settings.endpoint, wanted="https://HOST:PORT"
            ) from fault
        except BotoCoreError as fault:
            raise Usage(
                "the client for S3 cannot be used as this user has set it up",
                found=str(fault),
                hint="look at AWS_PROFILE, AWS_CONFIG_FILE and ~/.aws; nothing of them is needed",
            ) from fault

    def ready(self) -> None:
        self._pause.heed()

    def put(self, found: LogObject) -> None:
        self._pause.heed()
        try:
            self._confirm(found, self._put(found))
        except Exception as fault:  # an answer that is none fails anywhere in the client, as anything
            known = isinstance(fault, (self._refused, self._broken, ExportSinkUnready))
            said = str(fault) if known else f"no answer of S3: {type(fault).__name__}: {fault}"
            unready = ExportSinkUnready(f"S3, {self._settings.bucket}/{found.name}: {said}")
            self._pause.begin(unready)
            raise unready from fault

    def _put(self, found: LogObject) -> dict[str, str]:
        """Put it if its name is free; says which version of the object it is, if that is known."""
        until = self._now() + dt.timedelta(days=self._settings.retention.days)
        # Servers older than the checksums want this one with a lock; it is no proof of anything.
        md5 = hashlib.md5(found.body, usedforsecurity=False).digest()
        try:
            made = self._client.put_object(
                Bucket=self._settings.bucket,
                Key=found.name,
                Body=found.body,
                ContentType="application/x-ndjson",
                ContentMD5=base64.b64encode(md5).decode("ascii"),
                ChecksumSHA256=base64.b64encode(found.sha256).decode("ascii"),
                IfNoneMatch="*",
                Metadata=found.metadata,
                ObjectLockMode=self._settings.retention.mode,
                ObjectLockRetainUntilDate=until,
            )
        except self._refused as fault:
            if fault.response["ResponseMetadata"]["HTTPStatusCode"] != _TAKEN:
                raise
            return {}
        return {name: made[name] for name in ("VersionId",) if name in made}

    def _confirm(self, found: LogObject, version: dict[str, str]) -> None:
        """Ask the server what it has under this name, be it from now or from before a cut."""
        there = self._client.head_object(
            Bucket=self._settings.bucket, Key=found.name, ChecksumMode="ENABLED", **version
        )
        wanted = base64.b64encode(found.sha256).decode("ascii")
        if there["ContentLength"] != len(found.body) or there.get("ChecksumSHA256") != wanted:
            raise ExportSinkUnready(
                f"other bytes are there under this name: {there['ContentLength']:,},"
                f" SHA-256 {there.get('ChecksumSHA256')}; wanted {len(found.body):,}, {wanted}"
            )
        mode, until = there.get("ObjectLockMode"), there.get("ObjectLockRetainUntilDate")
        wanted_mode = self._settings.retention.mode
        least = there["LastModified"] + dt.timedelta(days=self._settings.retention.days) - _SLACK
        if mode != wanted_mode or until is None or until < least:
            raise ExportSinkUnready(
                f"it is there and not locked as it has to be: {mode} until {until};"
                f" wanted {wanted_mode} until {least}"
            )

    def close(self) -> None:
        self._client.close()
