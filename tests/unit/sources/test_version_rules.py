"""Versions that must be one: from a set that fits, change one version, and the lock is refused."""

from __future__ import annotations

import pytest

from appliance.definition.lock import Artefact
from appliance.errors import Location, VersionsDiffer
from appliance.sources.version_rules import check_versions

WHERE = Location("h100.yaml", 22, 1)
#: What Debian trixie has, as resolved on 2026-11-29.
DEBIAN = {
    "firmware-nvidia-gsp": "550.163.01-2",
    "libcuda1": "550.163.01-2",
    "libnvidia-cfg1": "550.163.01-2",
    "libnvidia-ml1": "550.163.01-2",
    "libnvidia-ptxjitcompiler1": "550.163.01-2",
    "nvidia-alternative": "550.163.01-2",
    "nvidia-kernel-common": "20240109+1",
    "nvidia-modprobe": "570.133.07-1",
    "nvidia-open-kernel-dkms": "550.163.01-2",
    "nvidia-open-kernel-support": "550.163.01-2",
    "nvidia-persistenced": "550.163.01-1",
    "nvidia-smi": "550.163.01-2",
}
#: The branch that trixie keeps beside it, as resolved on 2026-11-30.
TESLA = {
    "firmware-nvidia-tesla-535-gsp": "535.274.02-1~deb13u1",
    "libnvidia-tesla-535-cfg1": "535.274.02-1~deb13u1",
    "libnvidia-tesla-535-cuda1": "535.274.02-1~deb13u1",
    "libnvidia-tesla-535-ml1": "535.274.02-1~deb13u1",
    "libnvidia-tesla-535-pkcs11-openssl3": "535.274.02-1~deb13u1",
    "libnvidia-tesla-535-ptxjitcompiler1": "535.274.02-1~deb13u1",
    "nvidia-kernel-common": "20240109+1",
    "nvidia-modprobe": "570.133.07-1",
    "nvidia-persistenced": "550.163.01-1",
    "nvidia-tesla-535-alternative": "535.274.02-1~deb13u1",
    "nvidia-tesla-535-kernel-dkms": "535.274.02-1~deb13u1",
    "nvidia-tesla-535-kernel-support": "535.274.02-1~deb13u1",
    "nvidia-tesla-535-smi": "535.274.02-1~deb13u1",
}
UBUNTU = {
    "libnvidia-compute-580-server": "580.105.08-0ubuntu1",
    "nvidia-dkms-580-server-open": "580.105.08-0ubuntu1",
    "nvidia-fabricmanager-580": "580.105.08-0ubuntu0.24.04.2",
    "nvidia-firmware-580-server-580.105.08": "580.105.08-0ubuntu1",
    "nvidia-utils-580-server": "580.105.08-0ubuntu1",
    "libnvidia-nscq-580": "1:580.105.08-1",
}
#: As the maker's own repository for Debian calls them.
NVIDIA = {
    "libcuda1": "580.95.05-1",
    "libnvidia-cfg1": "580.95.05-1",
    "libnvidia-ml1": "580.95.05-1",
    "libnvidia-nscq": "580.95.05-1",
    "nvidia-driver-cuda": "580.95.05-1",
    "nvidia-fabricmanager": "580.95.05-1",
    "nvidia-imex": "580.95.05-1",
    "nvidia-kernel-open-dkms": "580.95.05-1",
    "nvidia-kernel-support": "580.95.05-1",
    "nvidia-open": "580.95.05-1",
    "nvidia-persistenced": "580.95.05-1",
}
DCGM = {
    "datacenter-gpu-manager-4-core": "1:4.6.0-1",
    "datacenter-gpu-manager-4-cuda13": "1:4.6.0-1",
    "datacenter-gpu-manager-4-proprietary": "1:4.6.0-1",
    "datacenter-gpu-manager-exporter": "4.8.3-1",
}
CUDA_12 = {"nvidia-cuda-runtime-cu12": "12.8.90"}
CUDA_13 = {"nvidia-cuda-runtime": "13.0.96"}


def locked(kind: str, name: str, version: str) -> Artefact:
    origin = {"kind": kind, "project": name} if kind == "python" else {"kind": kind}
    return Artefact(
        path=name, name=name, version=version, size=1, sha256="0" * 64, licence="MIT", origin=origin
    )


def check(packages: dict[str, str], wheels: dict[str, str] | None = None, oldest: int = 0) -> None:
    items = sorted(packages.items())
    half = len(items) // 2  # the driver and the rest may be components of their own
    resolved = {
        "driver": [locked("debian", *each) for each in items[:half]],
        "system": [locked("debian", *each) for each in items[half:]],
        "engine": [locked("python", *each) for each in (wheels or {}).items()],
    }
    check_versions({"driver": "debian", "system": "debian", "engine": "python"}, resolved, WHERE, oldest)


@pytest.mark.parametrize("packages", [{}, DEBIAN, TESLA, UBUNTU, NVIDIA, DCGM, {**UBUNTU, **DCGM}])
def test_what_belongs_together_is_accepted(packages: dict[str, str]) -> None:
    check(packages)


def names(packages: dict[str, str], *free: str) -> list[tuple[dict[str, str], str]]:
    return [(packages, name) for name in packages if name not in free]


@pytest.mark.parametrize(
    ("packages", "name"),
    [
        *names(DEBIAN, "nvidia-modprobe", "nvidia-kernel-common", "nvidia-persistenced"),
        *names(TESLA, "nvidia-modprobe", "nvidia-kernel-common", "nvidia-persistenced"),
        *names(UBUNTU),
        *names(NVIDIA, "nvidia-persistenced"),
        *names(DCGM, "datacenter-gpu-manager-exporter"),
    ],
)
def test_one_digit_in_one_package_refuses_the_lock(packages: dict[str, str], name: str) -> None:
    version = packages[name]
    dot = version.rindex(".", 0, version.rindex("-"))
    other = f"{version[:dot]}.99{version[version.rindex('-') :]}"
    with pytest.raises(VersionsDiffer) as caught:
        check({**packages, name: other})
    error = caught.value
    assert error.exit_code == 3
    told = f"{error.found} {error.wanted}"
    assert name in told
    assert ".99" in told
    assert error.where == WHERE


@pytest.mark.parametrize("name", ["nvidia-modprobe", "nvidia-kernel-common", "nvidia-persistenced"])
def test_what_need_not_match_may_differ(name: str) -> None:
    check({**DEBIAN, name: "999.1-1"})


def test_persistenced_that_brings_a_library_of_its_own_branch_is_refused() -> None:
    """Of what Debian's persistenced may have, apt takes the first, unless another is named."""
    with pytest.raises(VersionsDiffer) as caught:
        check({**TESLA, "libnvidia-cfg1": "550.163.01-2", "nvidia-alternative": "550.163.01-2"})
    assert caught.value.found == "libnvidia-cfg1 550.163.01, nvidia-alternative 550.163.01"
    assert caught.value.wanted == "535.274.02 for each, as of nvidia-tesla-535-kernel-dkms"


def test_a_packages_own_revision_may_differ() -> None:
    check({**DEBIAN, "libcuda1": "550.163.01-3", "nvidia-smi": "1:550.163.01-2~deb13u1"})


def test_fabric_manager_of_a_newer_branch_is_refused_with_both_versions() -> None:
    """gpu-driver-container, issue 735: a pattern took Fabric Manager 590 beside driver 580."""
    with pytest.raises(VersionsDiffer, match="error 802") as caught:
        check({**UBUNTU, "nvidia-fabricmanager-590": "590.48.01-1"})
    assert caught.value.found == "nvidia-fabricmanager-590 590.48.01"
    assert caught.value.wanted == "580.105.08 for each, as of nvidia-dkms-580-server-open"


def test_libraries_without_a_module_must_agree_among_themselves() -> None:
    check({"nvidia-utils-580-server": "580.105.08-1", "libnvidia-compute-580-server": "580.105.08-1"})
    with pytest.raises(VersionsDiffer):
        check({"nvidia-utils-580-server": "580.105.08-1", "libnvidia-compute-580-server": "580.95.05-1"})


PREBUILT = {
    "linux-modules-nvidia-580-server-open-6.8.0-60-generic": "6.8.0-60.63",
    "libnvidia-compute-580-server": "580.105.08-0ubuntu1",
    "nvidia-utils-580-server": "580.105.08-0ubuntu1",
}


def test_without_dkms_fabric_manager_follows_the_drivers_libraries() -> None:
    check({**PREBUILT, "nvidia-fabricmanager-580": "580.105.08-0ubuntu0.24.04.2"})
    with pytest.raises(VersionsDiffer, match="error 802") as caught:
        check({**PREBUILT, "nvidia-fabricmanager-580": "580.95.05-0ubuntu0.24.04.2"})
    assert caught.value.found == "nvidia-fabricmanager-580 580.95.05"
    check({"nvidia-fabricmanager-580": "580.95.05-1", "libnvidia-nscq-580": "580.95.05-1"})


@pytest.mark.parametrize("first", ["550.163.01-2", "580.105.08-1"])
def test_a_package_in_two_versions_is_refused_whichever_comes_last(first: str) -> None:
    """The driver's component and the system's may both bring it: neither hides the other."""
    second = {"550.163.01-2": "580.105.08-1", "580.105.08-1": "550.163.01-2"}[first]
    resolved = {
        "driver": [locked("debian", "libcuda1", first)],
        "system": [locked("debian", "libcuda1", second), locked("debian", "nvidia-smi", second)],
    }
    kinds = dict.fromkeys(resolved, "debian")
    with pytest.raises(VersionsDiffer, match="libcuda1 in more than one version") as caught:
        check_versions(kinds, resolved, WHERE)
    assert caught.value.found == "libcuda1 550.163.01-2, libcuda1 580.105.08-1"
    same = {name: [locked("debian", "libcuda1", first)] for name in kinds}
    check_versions(kinds, same, WHERE)


HEADERS = {"linux-headers-6.12.118+deb13-amd64": "6.12.118-1"}


def test_a_driver_that_does_not_compile_for_its_kernel_is_refused() -> None:
    with pytest.raises(VersionsDiffer, match="does not compile") as caught:
        check({**DEBIAN, **HEADERS})
    assert caught.value.found == "nvidia-open-kernel-dkms 550.163.01-2, linux-headers-6.12.118+deb13-amd64"
    with pytest.raises(VersionsDiffer, match="issue 1272"):
        check({**DEBIAN, **HEADERS, "nvidia-open-kernel-dkms": "550.163.01-4~bpo13+1"})
    check({**DEBIAN, **HEADERS, "nvidia-open-kernel-dkms": "550.163.01-5"})  # may be mended
    proprietary = {name: version for name, version in DEBIAN.items() if "open" not in name}
    check({**proprietary, **HEADERS, "nvidia-kernel-dkms": "550.163.01-2"})  # decision 99: it compiles
    check({**TESLA, **HEADERS})
    check({**DEBIAN, "linux-headers-6.12.96+deb13-amd64": "6.12.96-1"})
    check({**DEBIAN, "linux-headers-6.12.118+deb13-common": "6.12.118-1"})


def test_an_exporter_of_another_major_version_is_refused() -> None:
    with pytest.raises(VersionsDiffer, match="exporter"):
        check({**DCGM, "datacenter-gpu-manager-exporter": "3.3.9-1"})
    check({"datacenter-gpu-manager-exporter": "3.3.9-1"})


@pytest.mark.parametrize(
    ("driver", "wheels", "accepted"),
    [
        (DEBIAN, CUDA_12, True),
        (DEBIAN, CUDA_13, False),
        (UBUNTU, CUDA_12, True),
        (UBUNTU, CUDA_13, True),
        (UBUNTU, {"nvidia-cuda-runtime": "14.0.1"}, True),
        (DEBIAN, {"nvidia-cuda-runtime": "14.0.1"}, False),
        ({}, CUDA_13, True),
        (DEBIAN, {"xllamacpp": "1"}, True),
        ({"libcuda1": "520.1-1"}, CUDA_12, False),
    ],
)
def test_wheels_for_a_newer_cuda_than_the_driver_runs_are_refused(
    driver: dict[str, str], wheels: dict[str, str], *, accepted: bool
) -> None:
    if accepted:
        check(driver, wheels)
        return
    with pytest.raises(VersionsDiffer, match="CUDA"):
        check(driver, wheels)


def test_a_driver_older_than_the_engine_wants_is_refused() -> None:
    check(DEBIAN, oldest=550)
    check({}, oldest=551)  # the node may have its own
    with pytest.raises(VersionsDiffer, match="too old for the engine") as caught:
        check(DEBIAN, oldest=551)
    assert (caught.value.found, caught.value.wanted) == ("driver 550.163.01", "branch 551 or newer")
    with pytest.raises(VersionsDiffer, match="begins with no number"):
        check({"libcuda1": "next-1"}, oldest=550)


@pytest.mark.parametrize(
    "version", ["next-1", "unstable~20261101-1", "v580.95.05-1", "~580-1", "9999999999.1-1"]
)
def test_a_version_without_a_number_is_refused_and_named(version: str) -> None:
    with pytest.raises(VersionsDiffer, match="begins with no number") as caught:
        check({"libcuda1": version}, CUDA_12)
    assert caught.value.found == f"driver {version.rpartition('-')[0]}"


@pytest.mark.parametrize("name", ["datacenter-gpu-manager-exporter", "datacenter-gpu-manager-4-core"])
def test_so_is_one_of_the_exporter_and_its_manager(name: str) -> None:
    packages = {"datacenter-gpu-manager-exporter": "4.6.0-1", "datacenter-gpu-manager-4-core": "1:4.6.0-1"}
    with pytest.raises(VersionsDiffer, match="begins with no number") as caught:
        check({**packages, name: "new-1"})
    assert caught.value.found == f"{name} new"
