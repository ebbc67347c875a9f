"""The cached root is found again exactly while its recipe is the same."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from appliance.lab.recipe import Recipe, build_command

CHANGES: dict[str, object] = {
    "suite": "forky",
    "architecture": "arm64",
    "variant": "extract",
    "packages": ("systemd",),
    "left_out": (),
    "enabled": (),
    "removed": (),
    "configured": {"etc/a": "b"},
    "written": {},
    "linked": {"etc/a": "b"},
}


def test_every_part_of_the_recipe_has_a_case_here() -> None:
    assert set(CHANGES) == {field.name for field in fields(Recipe)}


@pytest.mark.parametrize("part", sorted(CHANGES))
def test_a_changed_recipe_is_another_root(part: str) -> None:
    assert replace(Recipe(), **{part: CHANGES[part]}).digest != Recipe().digest  # type: ignore[arg-type]


def test_the_same_recipe_is_the_same_root() -> None:
    assert Recipe().digest == Recipe().digest
    assert len(Recipe().digest) == 64


def test_the_build_ends_with_whoever_started_it() -> None:
    command = build_command(Recipe(), "/target", "/archive.list")
    assert command.index("--pdeathsig") < command.index("--kill-child") < command.index("mmdebstrap")
    assert command[-3:] == ["trixie", "/target", "/archive.list"]


def test_what_belongs_to_the_building_machine_or_one_node_is_taken_out() -> None:
    removed = Recipe().removed
    for name in ("etc/ssh/ssh_host_*", "etc/machine-id", "etc/hostname", "etc/resolv.conf"):
        assert name in removed
    assert {"etc/apt/sources.list", "etc/apt/sources.list.d/*"} <= set(removed)
