"""Packages of another maker: a flat repository signed by its own key, beside Debian's archive.

The packages are small and ours; names, versions and what depends on what are NVIDIA's, as its repository
for Debian has them (Driver Installation Guide, "Debian").
"""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from .archive import Archive

if TYPE_CHECKING:
    from collections.abc import Callable

    from .archive import Signer
    from .conftest import Index, Web

DRIVER, NEWER = "580.95.05-1", "590.44.01-1"
DCGM = "1:4.4.1-1"
PAGE = Path(__file__).parents[3] / "docs/hardware.md"
#: What the page says to write into a definition.
WRITTEN = yaml.safe_load(
    PAGE.read_text()
    .partition("## The driver from NVIDIA's repository")[2]
    .split("```")[1]
    .removeprefix("yaml")
)["system"]


@pytest.fixture
def cuda(web: Web, signers: dict[str, Signer]) -> Archive:
    """The maker's repository, not yet published: the driver in two branches, and what goes with it."""
    root = web.root / "cuda"
    root.mkdir()
    made = Archive(root, signers["other"])
    for version in (DRIVER, NEWER):
        exactly = f"(= {version})"
        made.add("libcuda1", version, older=True, Depends="base")
        made.add("libnvidia-ml1", version, older=True)
        made.add(
            "nvidia-driver-cuda",
            version,
            older=True,
            Depends=f"libcuda1 {exactly}, libnvidia-ml1 {exactly}",
        )
        made.add("nvidia-kernel-open-dkms", version, older=True, section="non-free/kernel")
        made.add("nvidia-fabricmanager", version, older=True)
    made.add("nvidia-mig-parted", "0.15.0-1")
    made.add("datacenter-gpu-manager-4-core", DCGM)
    made.add("datacenter-gpu-manager-4-cuda13", DCGM, Depends="datacenter-gpu-manager-4-core")
    made.add("datacenter-gpu-manager-exporter", "4.5.2-1")
    return made


class Site:
    """A definition, and a station whose settings know the repository under the name nvidia."""

    def __init__(self, folder: Path, web: Web, signers: dict[str, Signer]) -> None:
        folder.mkdir()
        self.path, self.settings = folder / "driver.yaml", folder / "appliance" / "station.yaml"
        self.settings.parent.mkdir()
        self.repository: dict[str, Any] = {
            "address": f"{web.address}/cuda",
            "keyring": str(signers["other"].keyring),
        }
        self.repositories = {"nvidia": self.repository}
        self.driver: dict[str, Any] = copy.deepcopy(WRITTEN)
        self.write()

    def write(self) -> None:
        """Both files, as they now are."""
        self.settings.write_text(yaml.safe_dump({"repositories": self.repositories}))
        target = {"distribution": "debian", "suite": "trixie", "architecture": "amd64", "python": "3.13"}
        model = {"kind": "tiny-gguf", "sentence": "An answer.", "licence": "CC0-1.0"}
        definition = {
            "format": 1,
            "product": "driver",
            "version": "1",
            "sequence": 1,
            "target": target,
            "components": {
                "model": model,
                "engine": {"kind": "python", "requirements": ["app"]},
                "system": {"kind": "debian", "packages": ["base"]},
                "driver": self.driver,
            },
            "inference": {"engine": "engine", "model": "model", "file": "tiny.gguf", "name": "small"},
            "parity": 0,
        }
        self.path.write_text(yaml.safe_dump(definition, sort_keys=False))

    @property
    def locked(self) -> dict[str, dict[str, Any]]:
        """The packages of the locked driver, by name."""
        lock = json.loads(self.path.with_name("driver.lock.json").read_text())
        artefacts = lock["components"]["driver"]["artefacts"]
        return {each["name"]: each for each in artefacts if each["origin"]["kind"] == "debian"}


@pytest.fixture
def site(
    *,
    index: Index,
    archive: Archive,
    web: Web,
    signers: dict[str, Signer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    index.add("app")
    archive.add("base")
    archive.publish()
    monkeypatch.setenv("APPLIANCE_DEBIAN_MIRROR", f"{web.address}/debian")
    monkeypatch.setenv("APPLIANCE_DEBIAN_KEYRING", str(archive.signer.keyring))
    monkeypatch.setenv("APPLIANCE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "site"))
    return Site(tmp_path / "site", web, signers)


@pytest.mark.parametrize("folder", [False, True], ids=["web", "folder"])
def test_a_flat_repository_is_locked_by_versions_and_built_from_an_empty_store(
    *,
    site: Site,
    cuda: Archive,
    run: Callable[..., int],
    tmp_path: Path,
    folder: bool,
) -> None:
    cuda.publish_flat(inline=False)
    site.repository["suite"] = "/"  # as good as "./", which the other tests leave it at
    if folder:  # as the maker's packages of a whole repository leave one on a station
        site.repository["address"] = f"file://{cuda.root}"
    site.write()
    assert run("lock", site.path, "--json") == 0
    versions = {name: each["version"] for name, each in site.locked.items()}
    assert versions.pop("nvidia-mig-parted") == "0.15.0-1"
    assert versions == {
        "base": "1.0",
        "libcuda1": DRIVER,
        "libnvidia-ml1": DRIVER,
        "nvidia-driver-cuda": DRIVER,
        "nvidia-fabricmanager": DRIVER,
        "nvidia-kernel-open-dkms": DRIVER,
        "datacenter-gpu-manager-4-core": DCGM,
        "datacenter-gpu-manager-4-cuda13": DCGM,
        "datacenter-gpu-manager-exporter": "4.5.2-1",
    }
    archives = {name: each["origin"].get("archive") for name, each in site.locked.items()}
    assert archives.pop("base") is None
    assert set(archives.values()) == {"nvidia"}
    assert "127.0.0.1" not in site.path.with_name("driver.lock.json").read_text()

    out = tmp_path / "bundle"
    assert run("build", site.path, "--store", tmp_path / "cold", "--out", out) == 0
    check = ["sha256sum", "--check", "--strict", "--quiet", "trust/SHA256SUMS"]
    subprocess.run(check, cwd=out, check=True)
    assert (out / f"payload/driver/nvidia-fabricmanager_{DRIVER}_amd64.deb").is_file()
    (bom,) = (out / "sbom").glob("*.json")
    assert f'"pkg:deb/nvidia/nvidia-fabricmanager@{DRIVER}?arch=amd64"' in bom.read_text()


def test_parts_of_two_branches_are_refused_with_both_versions(
    site: Site, cuda: Archive, run: Callable[..., int], capsys: pytest.CaptureFixture[str], web: Web
) -> None:
    cuda.publish_flat()
    for package, complaint in (
        ("nvidia-fabricmanager", f"nvidia-fabricmanager {NEWER[:-2]}"),
        ("nvidia-kernel-open-dkms", f"nvidia-driver-cuda {DRIVER[:-2]}"),
    ):
        site.driver["versions"] = {
            "nvidia-driver-cuda": DRIVER,
            "libcuda1": DRIVER,
            "libnvidia-ml1": DRIVER,
        }
        site.driver["versions"]["nvidia-kernel-open-dkms"] = DRIVER
        site.driver["versions"]["nvidia-fabricmanager"] = DRIVER
        site.driver["versions"][package] = NEWER
        site.write()
        assert run("lock", site.path, "--json") == 3
        told = capsys.readouterr().out
        assert "VersionsDiffer" in told
        assert complaint in told
        assert "driver.yaml:" in told
    assert not [path for path, _ in web.asked if path.endswith(".deb")], "nothing was fetched for it"


def test_a_driver_older_than_the_definition_wants_is_refused(
    site: Site, cuda: Archive, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    cuda.publish_flat()
    written = yaml.safe_load(site.path.read_text())
    for branch, code in (("590", 3), ("580", 0)):
        written["hardware"] = {"gpu": "h100-sxm", "gpus": 1, "driver": int(branch)}
        site.path.write_text(yaml.safe_dump(written, sort_keys=False))
        assert run("lock", site.path, "--json") == code
        assert (f"branch {branch} or newer" in capsys.readouterr().out) is bool(code)


def test_dcgm_of_two_versions_is_refused(
    site: Site, cuda: Archive, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    cuda.add("datacenter-gpu-manager-4-cuda13", "1:4.5.0-1", Depends="datacenter-gpu-manager-4-core")
    cuda.publish_flat()
    assert run("lock", site.path, "--json") == 3
    told = capsys.readouterr().out
    assert "VersionsDiffer" in told
    assert "datacenter-gpu-manager-4-cuda13 4.5.0" in told
    assert "4.4.1 for each" in told


def test_only_its_own_key_opens_it_and_it_opens_nothing_else(
    *,
    site: Site,
    cuda: Archive,
    signers: dict[str, Signer],
    archive: Archive,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    cuda.publish_flat()
    site.repository["keyring"] = str(signers["archive"].keyring)
    site.write()
    assert run("lock", site.path, "--json") == 4
    told = capsys.readouterr().out
    assert "ArchiveUntrusted" in told
    assert f"what the repository nvidia sends does not verify with {signers['archive'].keyring}" in told
    # Nor may the maker's key vouch for Debian's archive.
    site.repository["keyring"] = str(signers["other"].keyring)
    site.write()
    archive.signer = signers["other"]
    archive.publish()
    assert run("lock", site.path, "--json") == 4
    assert "what the Debian archive sends does not verify" in capsys.readouterr().out


def test_an_index_without_the_packages_digests_is_no_ground_to_lock_on(
    site: Site, cuda: Archive, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    cuda.publish_flat(digests=False)
    assert run("lock", site.path, "--json") == 4
    told = capsys.readouterr().out
    assert "ArchiveUntrusted" in told
    assert "has no SHA-256" in told


def test_a_repository_that_does_not_answer_is_named(
    site: Site, web: Web, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    site.repository["address"] = f"{web.address}/gone"
    site.write()
    assert run("lock", site.path, "--json") == 6
    told = capsys.readouterr().out
    assert "the repository nvidia does not answer" in told
    assert "repositories.nvidia" in told


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"keyring": "/nowhere.gpg"}, "repositories.nvidia.keyring is not a file"),
        ({"keyring": "nowhere.gpg"}, "keyring"),
        ({"suite": "trixie"}, "names components"),
        ({"suite": "./", "components": ["main"]}, "has no components"),
        ({"address": "mirror.example"}, "address"),
        ({"trusted": True}, "trusted"),
    ],
)
def test_settings_that_say_no_repository_are_refused(
    site: Site,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    complaint: str,
) -> None:
    site.repository |= changes
    site.write()
    assert run("lock", site.path, "--json") == 3
    told = capsys.readouterr().out
    assert "SettingsInvalid" in told
    assert complaint in told


def test_a_package_that_none_of_them_has_is_named_with_where_it_was_looked_for(
    site: Site, cuda: Archive, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    cuda.publish_flat()
    site.driver["packages"] = ["nvidia-driver-cuda", "nvidia-nowhere"]
    site.write()
    assert run("lock", site.path, "--json") == 3
    told = capsys.readouterr().out
    assert "PackageMissing" in told
    assert "nvidia-nowhere cannot be had from Debian trixie, the repository nvidia" in told


def test_a_repository_that_the_station_does_not_know_is_named(
    site: Site, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    site.driver["repositories"] = ["elsewhere"]
    site.write()
    assert run("lock", site.path, "--json") == 3
    told = capsys.readouterr().out
    assert "this station does not know the repository elsewhere" in told
    assert "settings for: nvidia" in told


@pytest.mark.parametrize(
    ("glob", "version"),
    [("nvidia-*", "999*"), ("libcuda1", "580"), ("nvida-*", DRIVER)],
)
def test_versions_that_apply_to_nothing_are_refused(
    *,
    site: Site,
    cuda: Archive,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    glob: str,
    version: str,
) -> None:
    """To apt they are no fault: it takes the newest that there is."""
    cuda.publish_flat()
    site.driver["packages"] = ["nvidia-driver-cuda"]
    site.driver["versions"] = {glob: version}
    site.write()
    assert run("lock", site.path, "--json") == 3
    told = capsys.readouterr().out
    assert "DefinitionInvalid" in told
    assert f"{glob}: {version}" in told
    assert "driver.yaml:" in told


def test_where_one_address_lies_below_another_each_package_is_its_own_repositorys(
    *, site: Site, cuda: Archive, run: Callable[..., int], web: Web, signers: dict[str, Signer]
) -> None:
    """Who serves both has them at one address often, and Debian's archive in a folder of it."""
    outer = Archive(web.root, signers["other"])
    outer.add("outer-tool")
    outer.publish_flat()
    cuda.publish_flat()
    site.repositories["all"] = {"address": web.address, "keyring": str(signers["other"].keyring)}
    site.driver["packages"] += ["base", "outer-tool"]
    site.driver["repositories"] = ["all", "nvidia"]
    site.write()
    assert run("lock", site.path, "--json") == 0
    archives = {name: each["origin"].get("archive") for name, each in site.locked.items()}
    assert (archives.pop("base"), archives.pop("outer-tool")) == (None, "all")
    assert set(archives.values()) == {"nvidia"}


@pytest.mark.parametrize("address", ["debian", "cuda", "cuda/"])
def test_two_repositories_at_one_address_are_refused(
    *,
    site: Site,
    cuda: Archive,
    run: Callable[..., int],
    web: Web,
    capsys: pytest.CaptureFixture[str],
    address: str,
) -> None:
    """From which of them a package is, only its address says."""
    cuda.publish_flat()
    site.repositories["twin"] = {**site.repository, "address": f"{web.address}/{address}"}
    site.driver["repositories"] = ["nvidia", "twin"]
    site.write()
    assert run("lock", site.path, "--json") == 3
    told = capsys.readouterr().out
    assert "SettingsInvalid" in told
    assert "repositories.twin" in told


@pytest.mark.parametrize(
    "changes",
    [
        {"versions": {"*": "580*"}},
        {"repositories": ["https://mirror.example"]},
        {"repositories": ["nvidia", "nvidia"]},
        {"versions": {"nvidia-open": "580; rm"}},
        {"versions": {"Package: *": "1"}},
        {"versions": {"nvidia-open": "1\nPin-Priority: 1"}},
    ],
)
def test_a_definition_names_neither_addresses_nor_more_than_versions(
    site: Site, run: Callable[..., int], capsys: pytest.CaptureFixture[str], changes: dict[str, Any]
) -> None:
    site.driver |= changes
    site.write()
    assert run("lock", site.path, "--json") == 3
    assert "DefinitionInvalid" in capsys.readouterr().out
