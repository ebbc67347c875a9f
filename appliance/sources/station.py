"""The build station: its settings, its store, and who is told about progress.

Packages come from where the station's own pip and apt are configured to look.  What differs from that
is set, in this order of precedence, by an option of the command, by an environment variable, or in
``~/.config/appliance/station.yaml``::

    store: /srv/appliance-store                        # APPLIANCE_STORE
    debian:
      mirror: https://mirror.example/debian            # APPLIANCE_DEBIAN_MIRROR
      security: https://mirror.example/debian-security # APPLIANCE_DEBIAN_SECURITY
      keyring: /usr/share/keyrings/example.gpg         # APPLIANCE_DEBIAN_KEYRING
    huggingface:
      endpoint: https://hub.example                    # APPLIANCE_HUGGINGFACE_ENDPOINT, HF_ENDPOINT
    oci:
      registry: https://registry.example               # APPLIANCE_OCI_REGISTRY
    repositories:                                      # of packages, beside Debian's; definitions name them
      example:
        address: https://mirror.example/debian12/x86_64
        suite: ./                                      # "./" or "/": a flat one; otherwise with components
        keyring: /usr/share/keyrings/example.gpg

Tokens and passwords are no settings: they stay where the tools of those registries keep them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping  # noqa: TC003 - pydantic reads it at run time
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import StringConstraints, model_validator

from appliance.definition.components import RepositoryName  # noqa: TC001 - pydantic reads it at run time
from appliance.definition.document import read_document, validate_document
from appliance.definition.names import Frozen
from appliance.errors import SettingsInvalid, ToolMissing
from appliance.sources.python_indexes import station_indexes
from appliance.sources.stopping import StopSignal
from appliance.sources.store import Store

if TYPE_CHECKING:
    from typing import Self

    from appliance.progress import Progress
    from appliance.sources.python_indexes import Indexes

# One module of each requirement of the extra "station" (pyproject.toml).
_STATION_MODULES: Final = ("debian", "gguf", "huggingface_hub", "oras", "pypi_simple", "requests", "uv")

# The settings in parts, and the variables that other programs read for the same.
_PARTS: Final[Mapping[str, Mapping[str, str]]] = {
    "debian": {},
    "huggingface": {"endpoint": "HF_ENDPOINT"},
    "oci": {},
}

Address = Annotated[str, StringConstraints(pattern=r"^[a-z+]+:[^\s\[\]]+$")]
# A server as such: no credentials, since settings are read by everybody; no query.
ServerAddress = Annotated[str, StringConstraints(pattern=r"^https?://[^\s\[\]/?#@]+(?:/[^\s\[\]?#@]+)?$")]
RegistryAddress = Annotated[str, StringConstraints(pattern=r"^https?://[^\s\[\]/?#@]+$")]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^\s\[\]]+$")]


class DebianSettings(Frozen):
    """Where Debian packages come from, when not from the station's own apt sources."""

    mirror: Address | None = None
    security: Address | None = None
    keyring: AbsolutePath | None = None


class RepositorySettings(Frozen):
    """A repository of packages that another maker signs, by its own key and no other.

    ``suite`` and ``components`` as sources.list(5) has them: a suite that ends in a slash is a folder
    without any components, a flat repository.
    """

    address: Address
    keyring: AbsolutePath
    suite: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9./~_+-]+$")] = "./"
    components: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9./~_+-]+$")], ...] = ()

    @model_validator(mode="after")
    def _flat_or_not(self) -> Self:
        if self.suite.endswith("/") and self.components:
            raise ValueError(f"a suite that ends in a slash, {self.suite}, has no components")
        if not self.suite.endswith("/") and not self.components:
            raise ValueError(f"the suite {self.suite} names components, or ends in a slash: a folder")
        return self


class HuggingFaceSettings(Frozen):
    """Where model repositories are, when not where huggingface_hub itself looks."""

    endpoint: ServerAddress | None = None


class OciSettings(Frozen):
    """The registry that images come from; there is none by default."""

    registry: RegistryAddress | None = None


class Settings(Frozen):
    """Station settings; everything left out is the station's own configuration."""

    store: AbsolutePath | None = None
    debian: DebianSettings = DebianSettings()
    huggingface: HuggingFaceSettings = HuggingFaceSettings()
    oci: OciSettings = OciSettings()
    repositories: Mapping[RepositoryName, RepositorySettings] = {}


@dataclass(frozen=True)
class Station:
    """What the sources work with.

    ``folder`` is the definition's, for files beside it; ``stop`` is set when the work is given up, and
    long transfers look at it, and waiting for a server ends.
    """

    store: Store
    settings: Settings
    progress: Progress
    folder: Path
    stop: StopSignal = field(default_factory=StopSignal)

    @cached_property
    def indexes(self) -> Indexes:
        """Where this station's pip looks; it is asked once."""
        return station_indexes()


def read_settings(environment: Mapping[str, str], *, mirror: str | None = None) -> Settings:
    """The settings in force; ``mirror`` is the command's option.

    Raises:
        SettingsInvalid: the file is malformed, or a value is no address or absolute path.
    """
    home = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = home / "appliance" / "station.yaml"
    settings = Settings()
    if path.exists():
        document = read_document(path.read_text(encoding="utf-8"), path, SettingsInvalid)
        settings = validate_document(document, Settings, SettingsInvalid)
    overridden: dict[str, Any] = {
        "store": environment.get("APPLIANCE_STORE") or settings.store,
        "repositories": settings.repositories,
    }
    for part, own in _PARTS.items():
        overridden[part] = {
            name: environment.get(f"APPLIANCE_{part}_{name}".upper())
            or environment.get(own.get(name, ""))
            or value
            for name, value in getattr(settings, part).model_dump().items()
        }
    if mirror:
        overridden["debian"] = {**overridden["debian"], "mirror": mirror}
    from pydantic import ValidationError

    try:
        return Settings.model_validate(overridden)
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SettingsInvalid(f"the setting {name} is wrong", wanted=first["msg"]) from fault


def open_station(
    definition: Path, *, store: Path | None, mirror: str | None, progress: Progress
) -> Station:
    """This station, for work on ``definition``; ``store`` and ``mirror`` are the command's options.

    Raises:
        ToolMissing: this is no build station: what only a station needs is not installed.
        SettingsInvalid: the settings are malformed.
        SpaceExhausted: the store cannot be made, its disk is full.
    """
    absent = [name for name in _STATION_MODULES if not find_spec(name)]
    if absent:
        raise ToolMissing(
            "this installation is not a build station's",
            found=f"no Python module {', '.join(absent)}",
            hint="install the program with its extra: pip install 'appliance[station]'",
        )
    settings = read_settings(os.environ, mirror=mirror)
    return Station(
        store=Store(_store_folder(settings, store)),
        settings=settings,
        progress=progress,
        folder=definition.absolute().parent,
    )


def open_store(option: Path | None) -> Store:
    """The store of this station, or the one that is named; for work on the store alone.

    Raises:
        SettingsInvalid: the settings are malformed, or there is no store.
    """
    folder = _store_folder(read_settings(os.environ), option)
    if not (folder / "objects").is_dir():
        raise SettingsInvalid(
            "there is no content store",
            found=f"nothing of one in {folder}",
            wanted="a folder that appliance lock or build has filled",
            hint="name it with --store or APPLIANCE_STORE",
        )
    return Store(folder)


def _store_folder(settings: Settings, option: Path | None) -> Path:
    """Where the store is: the option, the setting, or ``~/.cache/appliance/store``."""
    if option:
        return option.absolute()
    if settings.store:
        return Path(settings.store)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "appliance" / "store"
