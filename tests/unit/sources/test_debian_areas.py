"""Archive areas: a definition may name those its station does not use, and a build finds them again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from appliance.definition.bundle_definition import read_definition
from appliance.definition.components import Debian
from appliance.errors import DefinitionInvalid, Location, PackageMissing
from appliance.sources.debian_packages import DebianPackages

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.definition.document import Loc
    from appliance.definition.names import Target
    from appliance.sources.station import Settings, Station

    from .archive import Archive


DEMO = Path(__file__).parents[3] / "bundles/demo.yaml"


def where(_: Loc) -> Location:
    return Location("demo.yaml", 5, 1)


@pytest.fixture
def archive_with_driver(archive: Archive) -> Archive:
    archive.add("base")
    archive.add("driver", "550.1-1", area="non-free", section="non-free/kernel", Depends="base")
    archive.publish()
    return archive


@pytest.mark.usefixtures("archive_with_driver")
def test_a_package_outside_main_is_there_only_if_its_area_is_named(
    target: Target,
    new_station: Callable[..., Station],
    debian_settings: Settings,
) -> None:
    source = DebianPackages(target, new_station(settings=debian_settings))
    with pytest.raises(PackageMissing, match="driver"):
        source.resolve(Debian(kind="debian", packages=("driver",)), where)
    spec = Debian(kind="debian", packages=("driver",), areas=("main", "non-free"))
    artefacts = source.resolve(spec, where)
    assert [(each.name, each.origin["component"]) for each in artefacts] == [
        ("base", "main"),
        ("driver", "non-free"),
    ]
    source.fetch(artefacts)  # has the lock alone, which names no areas but those of packages
    assert source.missing(artefacts) == []


def test_backports_are_asked_for_by_name(
    archive: Archive, target: Target, new_station: Callable[..., Station], debian_settings: Settings
) -> None:
    needs = {"base": {}, "driver": {"Depends": "base"}, "tool": {}}
    for name, fields in needs.items():
        archive.add(name, "1.0-1")
        archive.add(name, "2.0-1~bpo13+1", backport=True, **fields)
    archive.publish()
    source = DebianPackages(target, new_station(settings=debian_settings))
    spec = Debian(kind="debian", packages=("driver", "tool"), backports=("driver",))
    artefacts = source.resolve(spec, where)
    assert {each.name: each.version for each in artefacts} == {
        "base": "1.0-1",
        "driver": "2.0-1~bpo13+1",
        "tool": "1.0-1",
    }
    assert {each.name: each.origin["suite"] for each in artefacts}["driver"] == "trixie-backports"
    source.fetch(artefacts)
    assert source.missing(artefacts) == []
    plain = source.resolve(Debian(kind="debian", packages=("driver",)), where)
    assert [each.version for each in plain] == ["1.0-1"]
    absent = Debian(kind="debian", packages=("tool", "gone"), backports=("gone",))
    with pytest.raises(PackageMissing, match="gone/trixie-backports"):
        source.resolve(absent, where)


def test_what_is_not_asked_for_cannot_be_a_backport() -> None:
    values = yaml.safe_load(DEMO.read_text())
    values["components"]["system"]["backports"] = ["driver"]
    with pytest.raises(DefinitionInvalid, match="driver"):
        read_definition(yaml.safe_dump(values).encode(), "x")


@pytest.mark.parametrize("areas", [[], ["universe"], "main", ["http://archive.example"], [1]])
def test_only_areas_of_debian_can_be_named(areas: object) -> None:
    values = yaml.safe_load(DEMO.read_text())
    values["components"]["system"]["areas"] = areas
    with pytest.raises(DefinitionInvalid, match="areas"):
        read_definition(yaml.safe_dump(values).encode(), "x")
