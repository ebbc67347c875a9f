"""A model hub on loopback: the paths huggingface_hub really asks, with its error codes."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from typing import Any

from .loopback import Asked, Loopback, Reply, file_reply

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def safetensors(numbers: int = 100, header: bytes | None = None) -> bytes:
    """One tensor of so many bytes."""
    description = {"w": {"dtype": "U8", "shape": [numbers], "data_offsets": [0, numbers]}}
    text = header if header is not None else json.dumps(description).encode()
    return struct.pack("<Q", len(text)) + text + hashlib.shake_256(b"weights").digest(numbers)


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324 - Git's own digest


@dataclass
class Repository:
    """One repository; ``lfs`` are the suffixes kept in large file storage; ``token`` opens a gated one."""

    files: dict[str, bytes]
    commit: str = COMMIT
    refs: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    lfs: tuple[str, ...] = (".safetensors", ".bin", ".gguf")
    card: dict[str, Any] = field(default_factory=lambda: {"license": "apache-2.0"})
    gated: str | bool = False
    token: str | None = None
    described: bool = False
    """Whether the description is for everybody although the files are gated, as on the public hub."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Parts of the description said otherwise."""

    def description(self, name: str) -> dict[str, Any]:
        siblings = []
        for path, data in self.files.items():
            entry: dict[str, Any] = {"rfilename": path, "size": len(data)}
            if path.endswith(self.lfs):
                entry["blobId"] = hashlib.sha1(b"pointer").hexdigest()  # noqa: S324 - Git's own digest
                entry["lfs"] = {
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "size": len(data),
                    "pointerSize": 130,
                }
            else:
                entry["blobId"] = git_sha1(data)
            siblings.append(entry)
        return {
            "id": name,
            "sha": self.commit,
            "gated": self.gated,
            "private": False,
            "cardData": self.card,
            "siblings": siblings,
            "tags": [],
            **self.changes,
        }


@dataclass
class HubServer:
    """Repositories by name; large files lie on another host, ``storage``, where tokens have no business."""

    web: Loopback
    storage: Loopback
    repositories: dict[str, Repository] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.web.pages = self._page

    def _page(self, asked: Asked) -> Reply:
        parts = asked.path.strip("/").split("/")
        if parts[:2] == ["api", "models"] and "revision" in parts:
            at = parts.index("revision")
            return self._model("/".join(parts[2:at]), "/".join(parts[at + 1 :]), asked)
        if "resolve" in parts:
            at = parts.index("resolve")
            return self._resolve("/".join(parts[:at]), parts[at + 1], "/".join(parts[at + 2 :]), asked)
        return Reply(404)

    def _denied(self, repository: Repository, asked: Asked) -> Reply | None:
        sent = asked.headers.get("authorization")
        if repository.token is None or sent == f"Bearer {repository.token}":
            return None
        return Reply(
            403 if sent else 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access denied"}
        )

    def _model(self, name: str, revision: str, asked: Asked) -> Reply:
        repository = self.repositories.get(name)
        if repository is None:
            # What the public hub says of what does not exist, to those it does not know.
            return Reply(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        if not repository.described and (denied := self._denied(repository, asked)):
            return denied
        if revision not in {repository.commit, *repository.refs}:
            return Reply(404, {"X-Error-Code": "RevisionNotFound"})
        if "blobs=true" not in asked.query.lower():
            return Reply(400)
        body = json.dumps(repository.description(name)).encode()
        return Reply(headers={"Content-Type": "application/json"}, body=body)

    def _resolve(self, name: str, revision: str, path: str, asked: Asked) -> Reply:
        repository = self.repositories.get(name)
        if repository is None:
            return Reply(401, {"X-Error-Code": "RepoNotFound"})
        if denied := self._denied(repository, asked):
            return denied
        if revision != repository.commit:
            return Reply(404, {"X-Error-Code": "RevisionNotFound"})
        if path not in repository.files:
            return Reply(404, {"X-Error-Code": "EntryNotFound"})
        data = repository.files[path]
        if not path.endswith(repository.lfs):
            return file_reply(data)
        blob = f"/blobs/{hashlib.sha256(data).hexdigest()}"
        self.storage.files.setdefault(blob, data)
        return Reply(302, {"Location": self.storage.address + blob})
