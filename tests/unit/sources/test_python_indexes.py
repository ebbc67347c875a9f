"""pip's configuration, as this program and uv understand it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.sources.python_indexes import Indexes, indexes_from, station_indexes

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_an_unconfigured_pip_leaves_everything_to_its_defaults() -> None:
    assert indexes_from("") == Indexes()


def test_environment_overrides_install_overrides_global() -> None:
    listing = (
        ":env:.index-url='https://env.example/simple'\n"
        "global.index-url='https://global.example/simple'\n"
        "install.index-url='https://install.example/simple'\n"
        "global.extra-index-url='https://a.example/simple\\nhttps://b.example/simple'\n"
        "global.trusted-host='a.example b.example'\n"
        "list.index-url='https://list.example/simple'\n"
    )
    indexes = indexes_from(listing)
    assert indexes.index == "https://env.example/simple"
    assert indexes.extra == ("https://a.example/simple", "https://b.example/simple")
    assert indexes.trusted_hosts == ("a.example", "b.example")


def test_places_on_this_machine_that_do_not_exist_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    listing = (
        f"global.find-links='{tmp_path}/wheels {tmp_path}/gone https://c.example/wheels'\n"
        f"global.extra-index-url='file://{tmp_path}/simple file://{tmp_path}/wheels'\n"
        f"global.cert='{tmp_path}/gone.pem'\n"
    )
    indexes = indexes_from(listing)
    assert indexes.find_links == (f"{tmp_path}/wheels", "https://c.example/wheels")
    assert indexes.extra == (f"file://{tmp_path}/wheels",)
    assert indexes.certificates is None


def test_uv_is_told_the_same_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX", "https://elsewhere.example/simple")
    monkeypatch.setenv("UV_CONSTRAINT", "x.txt")
    monkeypatch.setenv("UV_CACHE_DIR", "/cache")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    environment = Indexes(
        index="https://user:secret@a.example/simple",
        extra=("https://b.example/simple", "https://c.example/simple"),
        find_links=("/wheels", "/more"),
        certificates="/ca.pem",
    ).uv_environment()
    told = {
        name: value
        for name, value in environment.items()
        if name.startswith("UV_") or name == "SSL_CERT_FILE"
    }
    assert told == {
        "UV_CACHE_DIR": "/cache",
        "UV_NO_CONFIG": "1",
        "UV_DEFAULT_INDEX": "https://user:secret@a.example/simple",
        "UV_INDEX": "https://b.example/simple https://c.example/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/ca.pem",
    }


def test_the_real_pip_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    configuration = tmp_path / "pip.conf"
    configuration.write_text(
        "[global]\nindex-url = https://file.example/simple\nextra-index-url =\n  https://a.example/s\n  https://b.example/s\n"
    )
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    assert station_indexes().index == "https://file.example/simple"
    assert station_indexes().extra[-2:] == ("https://a.example/s", "https://b.example/s")
    monkeypatch.setenv("PIP_INDEX_URL", "https://env.example/simple")
    assert station_indexes().index == "https://env.example/simple"
