"""Package URLs and CPEs as scanners read them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from packageurl import PackageURL

from appliance.bundle.packages import Package
from appliance.bundle.sbom.document import sbom_bytes
from appliance.bundle.sbom.identifiers import _table, cpe, upstream_version
from appliance.bundle.sbom.licences import licences

from .conftest import COMMIT, IMAGE, payload

if TYPE_CHECKING:
    from appliance.bundle.manifest import Manifest


def deb(name: str, version: str, **origin: str) -> Package:
    file = payload(
        f"system/{name}.deb", name, version, "MIT", kind="debian", architecture="amd64", **origin
    )
    return Package(
        file.path, "system", "debian", name, version, file.origin, (file,), file.size, (file.licence,)
    )


def test_purls_are_what_scanners_expect(manifest: Manifest) -> None:
    document = json.loads(sbom_bytes(manifest))
    found = {each["name"]: each.get("purl") for each in document["components"]}
    for purl in filter(None, found.values()):
        assert PackageURL.from_string(purl).to_string() == purl
    assert found == {
        "appliance": "pkg:generic/appliance@0.1.0",
        "bash": "pkg:deb/debian/bash@5.2.37-2?arch=amd64&distro=debian-13",
        "cryptography": "pkg:pypi/cryptography@46.0.1"
        "?file_name=cryptography-46.0.1-cp311-abi3-linux_x86_64.whl",
        "example/Tiny-Model": f"pkg:huggingface/example/Tiny-Model@{COMMIT}",
        "extras": None,
        "libc6": "pkg:deb/debian/libc6@2.41-12%2Bb1?arch=amd64&distro=debian-13&upstream=glibc%402.41-12",
        "openssh-server": "pkg:deb/debian/openssh-server@1:9.2p1-2%2Bdeb12u3"
        "?arch=amd64&distro=debian-13&upstream=openssh",
        "requirements.txt": None,
        "tiny.gguf": None,
        "tools/probe": f"pkg:oci/probe@{IMAGE}?arch=amd64",
        "x": "pkg:pypi/x@1?file_name=x-1.whl",
    }


def test_a_scanner_finds_version_and_ecosystem_again(manifest: Manifest) -> None:
    """What is looked up in advisories: ecosystem, name, version, source package, release."""
    document = json.loads(sbom_bytes(manifest))
    (ssh,) = [each for each in document["components"] if each["name"] == "openssh-server"]
    purl = PackageURL.from_string(ssh["purl"])
    assert (purl.type, purl.namespace, purl.name, purl.version) == (
        "deb",
        "debian",
        "openssh-server",
        ssh["version"],
    )
    assert purl.qualifiers == {"arch": "amd64", "distro": "debian-13", "upstream": "openssh"}
    assert ssh["cpe"] == "cpe:2.3:a:openbsd:openssh:9.2:p1:*:*:*:*:*:*"


def test_an_unknown_suite_keeps_its_name(manifest: Manifest) -> None:
    other = replace(manifest, target=replace(manifest.target, suite="forky"))
    assert b"distro=debian-forky" in sbom_bytes(other)


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("5.2.37-2", "5.2.37"),
        ("1:9.2p1-2+deb12u3", "9.2p1"),
        ("2.41-12+b1", "2.41"),
        ("6.5+20250216-2", "6.5"),
        ("2:6.3.0+dfsg-3", "6.3.0"),
        ("1.9.6+ds1-1", "1.9.6"),
        ("6.12.41+1", "6.12.41"),
        ("5.8.1+really5.4.1-1", "5.4.1"),
        ("257.8-1~deb13u2", "257.8"),
        ("1.0", "1.0"),
    ],
)
def test_a_debian_version_becomes_its_authors(version: str, upstream: str) -> None:
    assert upstream_version(deb("any", version)) == upstream


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        (deb("openssl", "3.5.1-1"), "cpe:2.3:a:openssl:openssl:3.5.1:*:*:*:*:*:*:*"),
        (deb("libssl3t64", "3.5.1-1", source="openssl"), "cpe:2.3:a:openssl:openssl:3.5.1:*:*:*:*:*:*:*"),
        (
            deb("libkrb5-3", "1.21.3-5+deb13u2", source="krb5"),
            "cpe:2.3:a:mit:kerberos_5:1.21.3:*:*:*:*:*:*:*",
        ),
        (
            deb("libtirpc3t64", "1.3.6+ds-1", source="libtirpc"),
            "cpe:2.3:a:libtirpc_project:libtirpc:1.3.6:*:*:*:*:*:*:*",
        ),
        (deb("libcap2", "1:2.75-10+deb13u1"), "cpe:2.3:a:libcap_project:libcap:2.75:*:*:*:*:*:*:*"),
        (deb("procps", "2:4.0.4-9"), None),
        (deb("sudo", "1.9.16p2-3"), "cpe:2.3:a:sudo_project:sudo:1.9.16:p2:*:*:*:*:*:*"),
        (
            deb("linux-image-6.12", "6.12.41-1", source="linux-signed-amd64", source_version="6.12.41+1"),
            "cpe:2.3:o:linux:linux_kernel:6.12.41:*:*:*:*:*:*:*",
        ),
        (deb("never-heard-of", "1"), None),
    ],
)
def test_cpes_of_known_packages_only(package: Package, expected: str | None) -> None:
    assert cpe(package) == expected


def test_a_project_is_known_however_it_is_spelled() -> None:
    wheel = payload("engine/j.whl", "Jinja2", "3.1.6", "MIT", kind="python", project="Jinja2")
    package = Package(
        wheel.path,
        "engine",
        "python",
        "Jinja2",
        "3.1.6",
        wheel.origin,
        (wheel,),
        wheel.size,
        (wheel.licence,),
    )
    assert cpe(package) == "cpe:2.3:a:palletsprojects:jinja:3.1.6:*:*:*:*:*:*:*"
    local = replace(package, name="torch", version="2.8.0+cu128")
    assert cpe(local) == r"cpe:2.3:a:linuxfoundation:pytorch:2.8.0\+cu128:*:*:*:*:*:*:*"


def test_the_table_of_known_names_is_well_formed() -> None:
    for kind, table in _table().items():
        assert kind in {"debian", "python"}
        assert list(table) == sorted(table)
        for known in table.values():
            assert re.fullmatch(r"[ao]:[a-z0-9._-]+:[a-z0-9._-]+", known)


@pytest.mark.parametrize(
    ("stated", "spdx"),
    [
        ("MIT", "MIT"),
        ("Expat", "MIT"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("(GPL-2+ or Expat) AND BSD-3-clause", "(GPL-2.0-or-later OR MIT) AND BSD-3-Clause"),
        ("GPL-3+ AND words", None),
        ("MIT License", "MIT"),
        ("Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0"),
        ("Apache Software License", None),  # of which version?
        ("BSD", None),
        ("not stated", None),
        ("a" * 4000 + " (", None),
    ],
)
def test_licences_are_spdx_where_they_can_be(stated: str, spdx: str | None) -> None:
    (licence,) = licences([stated])
    found = getattr(licence, "id", None) or getattr(licence, "value", None)
    assert found == spdx
    assert spdx or licence.name == stated
