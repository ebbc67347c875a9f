"""Against the reference registry, filled by skopeo; and what we write is read by skopeo.

The registry's package is unpacked, not installed: installing it starts a service that the whole network
can reach.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import bcrypt
import pytest

from appliance.definition.components import Oci
from appliance.errors import AccessDenied, Location, PackageMissing
from appliance.progress import Silent
from appliance.sources.oci_images import OciImages
from appliance.sources.station import OciSettings, Settings

from .registry_server import OCI, described, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from appliance.definition.document import Loc
    from appliance.definition.lock import Artefact
    from appliance.definition.names import Target
    from appliance.sources.station import Station

pytestmark = pytest.mark.archive

NAME = "team/exporter"


def where(loc: Loc) -> Location:
    return Location("demo.yaml", 7, len(loc))


@dataclass
class Registry:
    """The registry's address, and the digest of the image in it."""

    host: str
    digest: str


def layer(text: bytes) -> tuple[bytes, str]:
    """A layer of one file, and the digest of what it unpacks to."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    return gzip.compress(plain.getvalue(), compresslevel=0, mtime=0), digest_of(plain.getvalue())


def write_layout(folder: Path) -> str:
    """An image layout with one image of two layers; returns the manifest's digest."""
    layers = [layer(hashlib.shake_256(seed).digest(500_000)) for seed in (b"one", b"two")]
    config = json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "config": {"Labels": {"org.opencontainers.image.licenses": "MIT"}},
            "rootfs": {"type": "layers", "diff_ids": [unpacked for _, unpacked in layers]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": described(config, f"{OCI}.config.v1+json"),
            "layers": [described(data, f"{OCI}.layer.v1.tar+gzip") for data, _ in layers],
        }
    ).encode()
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for data in (config, manifest, *(data for data, _ in layers)):
        (blobs / hashlib.sha256(data).hexdigest()).write_bytes(data)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    listed = {"schemaVersion": 2, "manifests": [described(manifest, f"{OCI}.manifest.v1+json")]}
    (folder / "index.json").write_text(json.dumps(listed))
    return digest_of(manifest)


def skopeo(*arguments: object) -> str:
    command = ["skopeo", "--insecure-policy", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """The reference registry on a port of its own, open to one user, with one image in it."""
    folder = tmp_path_factory.mktemp("registry")
    subprocess.run(["apt-get", "-qq", "download", "docker-registry"], check=True, cwd=folder)
    (package,) = folder.glob("docker-registry_*.deb")
    subprocess.run(["dpkg-deb", "--extract", package, folder / "unpacked"], check=True)
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    (folder / "users").write_text(f"station:{hashed}\n")
    settings = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": "127.0.0.1:0"},
        "auth": {"htpasswd": {"realm": "station", "path": str(folder / "users")}},
    }
    (folder / "config.yml").write_text(json.dumps(settings))
    program = folder / "unpacked" / "usr" / "bin" / "docker-registry"
    command = [program, "serve", str(folder / "config.yml")]
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr
        host = next(
            found[1] for line in process.stderr if (found := re.search(r"listening on ([\d.]+:\d+)", line))
        )
        digest = write_layout(folder / "layout")
        skopeo(
            *("copy", "--quiet", "--dest-tls-verify=false", "--dest-creds=station:secret"),
            *(f"oci:{folder / 'layout'}", f"docker://{host}/{NAME}:v1"),
        )
        yield Registry(host, digest)
        process.kill()


@pytest.fixture
def source(
    registry: Registry,
    new_station: Callable[..., Station],
    target: Target,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> OciImages:
    """A station logged in to the registry."""
    auth = base64.b64encode(b"station:secret").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    settings = Settings(oci=OciSettings(registry=f"http://{registry.host}"))
    return OciImages(target, new_station("store", settings))


def spec(digest: str) -> Oci:
    return Oci.model_validate({"kind": "oci", "images": [{"repository": NAME, "digest": digest}]})


def locked(source: OciImages, registry: Registry) -> list[Artefact]:
    artefacts = source.resolve(spec(registry.digest), where)
    source.fetch(artefacts)
    return source.describe(artefacts)


def test_another_program_reads_the_layout_and_finds_every_byte(
    registry: Registry, source: OciImages, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    for artefact in locked(source, registry):
        place = layout / artefact.path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.station.store.path(artefact.sha256), place)
    raw = skopeo("inspect", "--raw", f"oci:{layout}")
    assert digest_of(raw.encode()) == registry.digest
    skopeo("copy", "--quiet", f"oci:{layout}", f"dir:{tmp_path / 'copied'}")
    (place := layout / "blobs/sha256" / json.loads(raw)["layers"][0]["digest"][7:]).write_bytes(b"changed")
    assert place.exists()
    with pytest.raises(subprocess.CalledProcessError):
        skopeo("copy", "--quiet", f"oci:{layout}", f"dir:{tmp_path / 'again'}")


def test_licences_sizes_and_digests_are_the_images(registry: Registry, source: OciImages) -> None:
    artefacts = locked(source, registry)
    blobs = [entry for entry in artefacts if entry.origin["kind"] == "oci"]
    assert {entry.licence for entry in blobs} == {"MIT"}
    assert sorted(entry.origin["part"] for entry in blobs) == ["config", "layer", "layer", "manifest"]
    assert {entry.version for entry in blobs} == {registry.digest}


def test_a_layer_goes_on_at_the_missing_byte(registry: Registry, source: OciImages) -> None:
    artefacts = source.resolve(spec(registry.digest), where)
    big = max(artefacts, key=lambda entry: entry.size)
    whole = layer(hashlib.shake_256(b"one").digest(500_000))[0]
    first = next(entry for entry in artefacts if entry.sha256 == hashlib.sha256(whole).hexdigest())
    assert first.size == big.size
    (source.station.store.folder / "partial" / first.sha256).write_bytes(whole[:400_000])

    class Count(Silent):
        pieces: list[int] = []  # noqa: RUF012 - one instance

        def advance(self, count: int) -> None:
            self.pieces.append(count)

    counted = Count()
    object.__setattr__(source.station, "progress", counted)
    source.fetch([first])
    assert counted.pieces[0] == 400_000
    assert sum(counted.pieces) == first.size  # nothing was sent twice
    assert source.missing([first]) == []


def test_without_credentials_and_without_the_image(
    registry: Registry, source: OciImages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    absent: Any = spec("sha256:" + "0" * 64)
    with pytest.raises(PackageMissing, match="does not have team/exporter@sha256:000000000000"):
        source.resolve(absent, where)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nothing"))
    with pytest.raises(AccessDenied):
        source.resolve(spec(registry.digest), where)
