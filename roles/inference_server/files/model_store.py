"""A store of models as Ollama reads it, with one model in it: the signed GGUF, by a link.

Ollama serves what its store has, and fills that by downloads or by ``ollama create``.  The one is not to
be had; the other writes a GGUF anew, so that what is served is not what was signed.  So the store is laid
here: a manifest, a description and a link to the file, which follow from its digest (docs/decisions/0089).
Source: Ollama 0.32, manifest/paths.go, manifest/manifest.go, types/model/config.go, types/model/name.go.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

#: Where the manifest lies at first: the parts of a model's whole name before its own, and its tag.
WHERE: Final = ("local", "appliance")
TAG: Final = "latest"
_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_DESCRIPTION: Final = "application/vnd.docker.container.image.v1+json"
_WEIGHTS: Final = "application/vnd.ollama.image.model"


def lay(store: Path, name: str, model: Path, digest: str) -> str:
    """Make a store anew, with this model alone; returns the whole name it has there.

    Args:
        store: its folder; what lies there is removed.
        name: what clients ask for.
        model: the GGUF file, which is linked to and not copied.
        digest: its SHA-256, which the caller has compared.
    """
    remove(store)
    blobs, manifests = store / "blobs", store.joinpath("manifests", *WHERE, name)
    blobs.mkdir(parents=True)
    manifests.mkdir(parents=True)
    (blobs / f"sha256-{digest}").symlink_to(model)
    description = _text(
        {
            "model_format": "gguf",
            "model_family": "",
            "model_families": [],
            "model_type": "",
            "file_type": "",
            "architecture": "amd64",
            "os": "linux",
        }
    )
    described = hashlib.sha256(description).hexdigest()
    (blobs / f"sha256-{described}").write_bytes(description)
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {
            "mediaType": _DESCRIPTION,
            "digest": f"sha256:{described}",
            "size": len(description),
        },
        "layers": [{"mediaType": _WEIGHTS, "digest": f"sha256:{digest}", "size": model.stat().st_size}],
    }
    (manifests / TAG).write_bytes(_text(manifest))
    return "/".join((*WHERE, name))


def close(store: Path) -> None:
    """Take the first name away, of which Ollama has made the short one, and let nothing be written.

    Then no client can have a model fetched, made, renamed or deleted, whatever Ollama offers.
    """
    shutil.rmtree(store / "manifests" / WHERE[0])
    for path in (*store.rglob("*"), store):
        if not path.is_symlink():
            path.chmod(0o500 if path.is_dir() else 0o400)


def remove(store: Path) -> None:
    """Remove a store, closed or not."""
    if store.is_dir():
        for path in (store, *store.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(store)


def _text(values: object) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()
