"""Where this station's pip looks for packages, told to uv and to our own downloads.

pip is asked for its configuration, so that files, environment and sections count as they do for pip;
of uv's own configuration nothing is used, or resolving and fetching could look in different places.
Places on this machine that do not exist are left out, as pip leaves them out.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from appliance.errors import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

# Later sections override earlier ones; ":env:" is pip's name for PIP_* variables.
_SECTIONS: Final = ("global", "install", "download", ":env:")
# uv's variables that do not change where it looks or what it chooses.
_HARMLESS: Final = ("UV_CACHE_DIR", "UV_HTTP_RETRIES", "UV_HTTP_TIMEOUT")


@dataclass(frozen=True)
class Indexes:
    """pip's sources: ``index`` (None: pip's own default), more indexes, and places with loose wheels.

    ``only_links``: pip's ``no-index``, use nothing but those places.
    """

    index: str | None = None
    extra: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    certificates: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    only_links: bool = False

    def uv_environment(self) -> dict[str, str]:
        """Settings of uv for the same sources; by environment, since addresses may hold credentials."""
        settings = {
            "UV_DEFAULT_INDEX": self.index or "",
            "UV_INDEX": " ".join(self.extra),
            "UV_FIND_LINKS": ",".join(self.find_links),
            "SSL_CERT_FILE": self.certificates or os.environ.get("SSL_CERT_FILE", ""),
            "UV_INSECURE_HOST": " ".join(self.trusted_hosts),
        }
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("UV_") or name in _HARMLESS
        }
        kept.update({name: value for name, value in settings.items() if value})
        return {**kept, "UV_NO_CONFIG": "1"}


def station_indexes() -> Indexes:
    """The sources that pip is configured to use on this station."""
    return indexes_from(_pip_configuration())


def indexes_from(listing: str) -> Indexes:
    """Read the output of ``pip config list``: lines of ``section.option='value'``."""
    options: dict[str, str] = {}
    lines = [line.partition("=") for line in listing.splitlines() if "=" in line]
    for section in _SECTIONS:
        for name, _, value in lines:
            head, dot, option = name.rpartition(".")
            if dot and head == section:
                options[option.replace("_", "-")] = str(ast.literal_eval(value))
    find_links = tuple(place for place in options.get("find-links", "").split() if _exists(place))
    extra = tuple(place for place in options.get("extra-index-url", "").split() if _exists(place))
    index = options.get("index-url")
    certificates = options.get("cert")
    return Indexes(
        index=index if index and _exists(index) else None,
        extra=extra,
        find_links=find_links,
        certificates=certificates if certificates and Path(certificates).exists() else None,
        trusted_hosts=tuple(options.get("trusted-host", "").split()),
        only_links=options.get("no-index", "").lower() in {"1", "true", "yes", "on"},
    )


def local_path(place: str) -> Path | None:
    """The path of a place on this machine; None for an address elsewhere."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(place) if not parts.scheme else None


def _exists(place: str) -> bool:
    path = local_path(place)
    return path is None or path.exists()


def _pip_configuration() -> str:
    """What ``pip config list`` prints; nothing where there is no pip, and so no configuration."""
    pip = shutil.which("pip3") or shutil.which("pip")
    if find_spec("pip"):
        command = [sys.executable, "-m", "pip"]
    elif pip:
        command = [pip]
    else:
        return ""
    environment: Mapping[str, str] = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    run = subprocess.run(
        [*command, "config", "list"], capture_output=True, text=True, check=False, env=environment
    )
    if run.returncode != 0:
        raise SettingsInvalid("pip's configuration cannot be read", found=run.stderr.strip()[-400:])
    return run.stdout
