"""Station settings: option before environment before file, and every mistake named."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import SettingsInvalid, ToolMissing
from appliance.progress import Silent
from appliance.sources import station
from appliance.sources.station import open_station, read_settings

FILE = "store: /srv/store\ndebian:\n  mirror: https://file.example/debian\n  keyring: /file.gpg\n"


def environment(tmp_path: Path, text: str | None = None, **variables: str) -> dict[str, str]:
    if text is not None:
        (tmp_path / "appliance").mkdir()
        (tmp_path / "appliance" / "station.yaml").write_text(text)
    return {"XDG_CONFIG_HOME": str(tmp_path), **variables}


def test_nothing_is_set_by_default(tmp_path: Path) -> None:
    settings = read_settings(environment(tmp_path))
    assert settings.store is None
    assert settings.debian.mirror is None


def test_option_before_environment_before_file(tmp_path: Path) -> None:
    variables = {"APPLIANCE_STORE": "/env/store", "APPLIANCE_DEBIAN_MIRROR": "https://env.example/debian"}
    assert read_settings(environment(tmp_path, FILE)).debian.mirror == "https://file.example/debian"
    settings = read_settings({"XDG_CONFIG_HOME": str(tmp_path), **variables})
    assert (settings.store, settings.debian.mirror) == ("/env/store", "https://env.example/debian")
    assert settings.debian.keyring == "/file.gpg"
    settings = read_settings(
        {"XDG_CONFIG_HOME": str(tmp_path), **variables}, mirror="https://option.example/debian"
    )
    assert settings.debian.mirror == "https://option.example/debian"


def test_hub_and_registry_are_settings(tmp_path: Path) -> None:
    text = (
        "huggingface:\n  endpoint: https://file.example/hub\noci:\n  registry: https://file.example:5000\n"
    )
    settings = read_settings(environment(tmp_path, text))
    assert settings.huggingface.endpoint == "https://file.example/hub"
    assert settings.oci.registry == "https://file.example:5000"
    home = {"XDG_CONFIG_HOME": str(tmp_path), "HF_ENDPOINT": "https://hf.example"}
    assert read_settings(home).huggingface.endpoint == "https://hf.example"
    ours = {
        **home,
        "APPLIANCE_HUGGINGFACE_ENDPOINT": "https://ours.example",
        "APPLIANCE_OCI_REGISTRY": "https://env.example",
    }
    settings = read_settings(ours)
    assert settings.huggingface.endpoint == "https://ours.example"
    assert settings.oci.registry == "https://env.example"


WRONG = {
    "credentials in a hub's address": ("huggingface:\n  endpoint: https://me:secret@hub.example\n", "2:13"),
    "a registry with a path": ("oci:\n  registry: https://registry.example/team\n", "2:13"),
    "a registry without a scheme": ("oci:\n  registry: registry.example\n", "2:13"),
    "unknown key": ("mirror: x\n", "1:1"),
    "malformed": ("store: [\n", "2:1"),
    "a relative store": ("store: here\n", "1:8"),
    "no address": ("debian:\n  mirror: somewhere\n", "2:11"),
    "options in an address": ("debian:\n  mirror: 'http://x/ [trusted=yes]'\n", "2:11"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused_at_its_place(tmp_path: Path, case: str) -> None:
    text, place = WRONG[case]
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(environment(tmp_path, text))
    assert str(caught.value.where) == f"{tmp_path}/appliance/station.yaml:{place}"
    assert caught.value.exit_code == 3


def test_a_wrong_variable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"debian\.mirror"):
        read_settings(environment(tmp_path, APPLIANCE_DEBIAN_MIRROR="x y"))


def test_an_installation_without_the_stations_part_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station, "find_spec", lambda name: None if name == "uv" else object())
    with pytest.raises(ToolMissing, match="not a build station") as caught:
        open_station(Path("demo.yaml"), store=tmp_path / "store", mirror=None, progress=Silent())
    assert caught.value.found == "no Python module uv"
    assert not (tmp_path / "store").exists()


def test_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("APPLIANCE_STORE", raising=False)

    def store(option: Path | None = None) -> Path:
        opened = open_station(Path("demo.yaml"), store=option, mirror=None, progress=Silent())
        return opened.store.folder

    assert store() == tmp_path / "cache" / "appliance" / "store"
    monkeypatch.setenv("APPLIANCE_STORE", str(tmp_path / "env"))
    assert store() == tmp_path / "env"
    assert store(tmp_path / "option") == tmp_path / "option"
