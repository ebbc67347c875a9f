"""A manifest with a package of every kind."""

from __future__ import annotations

import hashlib

import pytest

from appliance.bundle.manifest import Build, Component, Inference, Manifest, PayloadFile, Target

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IMAGE = "sha256:" + "c" * 64


def payload(path: str, name: str, version: str, licence: str, **origin: str) -> PayloadFile:
    """A file that stands at ``path`` under payload/; its digest follows from that."""
    digest = hashlib.sha256(path.encode()).hexdigest()
    return PayloadFile(f"payload/{path}", len(path), digest, name, version, licence, origin)


def component(kind: str, *files: PayloadFile) -> Component:
    return Component(kind, tuple(sorted(files, key=lambda file: file.path)))


@pytest.fixture
def manifest() -> Manifest:
    debian = {"kind": "debian", "suite": "trixie", "component": "main", "architecture": "amd64"}
    hub = {"kind": "huggingface", "repository": "example/Tiny-Model", "revision": COMMIT}
    image = {"kind": "oci", "repository": "tools/probe", "image": IMAGE, "platform": "linux/amd64"}
    engine = component(
        "python",
        payload(
            "engine/cryptography-46.0.1-cp311-abi3-linux_x86_64.whl",
            "cryptography",
            "46.0.1",
            "Apache-2.0 OR BSD-3-Clause",
            kind="python",
            project="cryptography",
        ),
        payload("engine/x-1.whl", "x", "1", "Some words of its own", kind="python", project="x"),
        payload(
            "engine/requirements.txt",
            "requirements.txt",
            "1",
            "CC0-1.0",
            kind="generated",
            generator="requirements 1",
        ),
    )
    system = component(
        "debian",
        payload(
            "system/openssh-server_9.2p1-2+deb12u3_amd64.deb",
            "openssh-server",
            "1:9.2p1-2+deb12u3",
            "BSD-3-clause AND public-domain",
            source="openssh",
            package="openssh-server",
            **debian,
        ),
        payload(
            "system/libc6_2.41-12+b1_amd64.deb",
            "libc6",
            "2.41-12+b1",
            "see copyright file",
            source="glibc",
            source_version="2.41-12",
            package="libc6",
            **debian,
        ),
        payload("system/bash_5.2.37-2_amd64.deb", "bash", "5.2.37-2", "GPL-3+", package="bash", **debian),
    )
    return Manifest(
        product="demo",
        version="1.0.0",
        sequence=7,
        created="2026-01-31T12:00:00Z",
        target=Target("debian", "trixie", "amd64", "3.13"),
        inference=Inference("engine", "model", "weights/a.safetensors", "demo"),
        components={
            "engine": engine,
            "extras": component(
                "files",
                payload("extras/a.txt", "a.txt", "1", "MIT", kind="file"),
                payload("extras/b.txt", "b.txt", "1", "MIT", kind="file"),
            ),
            "model": component(
                "huggingface",
                payload("model/weights/a.safetensors", "a.safetensors", COMMIT, "Apache-2.0", **hub),
                payload("model/config.json", "config.json", COMMIT, "Apache-2.0", **hub),
            ),
            "probe": component(
                "oci",
                payload("probe/blobs/one", "one", "1", "not stated", part="layer", **image),
                payload("probe/index.json", "index.json", "1", "not stated", part="index", **image),
            ),
            "system": system,
            "tiny": component(
                "tiny-gguf",
                payload(
                    "tiny/tiny.gguf",
                    "tiny.gguf",
                    "1",
                    "CC0-1.0",
                    kind="generated",
                    generator="tiny-gguf 1",
                    sentence="Hello.",
                ),
            ),
            "toolkit": component(
                "toolkit",
                payload(
                    "toolkit/appliance-0.1.0-py3-none-any.whl",
                    "appliance",
                    "0.1.0",
                    "Apache-2.0",
                    kind="toolkit",
                ),
            ),
        },
        files={},
        build=Build("d" * 64, "e" * 64),
    )
