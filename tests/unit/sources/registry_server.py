"""An image registry on loopback: the distribution specification's pulls, with Docker's token challenge."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from .loopback import Asked, Loopback, Reply, file_reply

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def described(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


@dataclass
class RegistryServer:
    """Repositories with blobs and manifests; blobs lie on another host, ``storage``.

    ``scheme`` is what the registry asks for: nothing, "bearer" or "basic"; ``password`` opens it (empty:
    tokens are given to everybody).  A token is good for ``uses`` requests.
    """

    web: Loopback
    storage: Loopback
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    scheme: str = ""
    password: str = ""
    uses: int = 1000
    tokens: dict[str, int] = field(default_factory=dict)
    realm: str = ""

    def __post_init__(self) -> None:
        self.web.pages = self._page

    # --- what is pushed -------------------------------------------------------------------------

    def blob(self, data: bytes) -> bytes:
        self.blobs[digest_of(data)] = data
        return data

    def document(self, values: object, media_type: str) -> bytes:
        data = json.dumps(values).encode()
        self.manifests[digest_of(data)] = (media_type, data)
        return data

    def image(
        self,
        *layers: bytes,
        architecture: str = "amd64",
        docker: bool = False,
        labels: dict[str, str] | None = None,
        **changes: Any,
    ) -> bytes:
        """An image's manifest; ``changes`` are parts of it said otherwise."""
        config = self.blob(
            json.dumps(
                {"os": "linux", "architecture": architecture, "config": {"Labels": labels}, "rootfs": {}}
            ).encode()
        )
        layer_type = f"{DOCKER}.image.rootfs.diff.tar.gzip" if docker else f"{OCI}.layer.v1.tar+gzip"
        config_type = f"{DOCKER}.container.image.v1+json" if docker else f"{OCI}.config.v1+json"
        media_type = f"{DOCKER}.distribution.manifest.v2+json" if docker else f"{OCI}.manifest.v1+json"
        values = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": described(config, config_type),
            "layers": [described(self.blob(layer), layer_type) for layer in layers],
            **changes,
        }
        return self.document(
            {name: value for name, value in values.items() if value is not None}, media_type
        )

    def index(self, images: dict[str, bytes], **changes: Any) -> bytes:
        """An index of images by architecture."""
        entries = [
            described(
                data,
                self.manifests[digest_of(data)][0],
                platform={"os": "linux", "architecture": architecture},
            )
            for architecture, data in images.items()
        ]
        values = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.index.v1+json",
            "manifests": entries,
            **changes,
        }
        return self.document(values, f"{OCI}.index.v1+json")

    # --- what is answered -----------------------------------------------------------------------

    def _page(self, asked: Asked) -> Reply:
        if asked.path == "/token":
            return self._token(asked)
        if denied := self._denied(asked):
            return denied
        *_, kind, digest = asked.path.split("/")
        if kind == "manifests" and digest in self.manifests:
            media_type, data = self.manifests[digest]
            if media_type not in asked.headers.get("accept", ""):
                return Reply(404)
            return Reply(headers={"Content-Type": media_type}, body=data)
        if kind == "blobs" and digest in self.blobs:
            self.storage.files.setdefault(f"/{digest}", self.blobs[digest])
            return Reply(307, {"Location": f"{self.storage.address}/{digest}"})
        return Reply(404, body=b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')

    def _basic(self, asked: Asked) -> bool:
        wanted = base64.b64encode(f"station:{self.password}".encode()).decode()
        return asked.headers.get("authorization") == f"Basic {wanted}"

    def _denied(self, asked: Asked) -> Reply | None:
        if not self.scheme:
            return None
        if self.scheme == "basic":
            ok = self._basic(asked)
            return None if ok else Reply(401, {"WWW-Authenticate": 'Basic realm="registry"'})
        token = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if self.tokens.get(token, 0) > 0:
            self.tokens[token] -= 1
            return None
        repository = asked.path.removeprefix("/v2/").rpartition("/")[0].rpartition("/")[0]
        realm = self.realm or f"{self.web.address}/token"
        challenge = f'Bearer realm="{realm}",service="registry",scope="repository:{repository}:pull"'
        return Reply(401, {"WWW-Authenticate": challenge})

    def _token(self, asked: Asked) -> Reply:
        if self.password and not self._basic(asked):
            return Reply(401)
        token = f"token-{len(self.tokens)}"
        self.tokens[token] = self.uses
        return file_reply(json.dumps({"token": token}).encode())
