"""Build the practice nodes' root file system once, and keep it by the recipe's digest.

This is the only part of the lab that asks a package archive for anything.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import InProgress, LabFailed, SpaceExhausted
from appliance.lab.places import locked
from appliance.lab.recipe import build_command
from appliance.lab.requirements import BUILD_TOOLS, require_root, require_tools

if TYPE_CHECKING:
    from appliance.lab.places import Places
    from appliance.lab.recipe import Recipe
    from appliance.progress import Progress

_NEEDED_BYTES = 600 * 2**20
_LOG_LINES = 15
_BUILD_WAIT = 1800.0


def cached_root(places: Places, recipe: Recipe) -> Path | None:
    """The root file system of a recipe, when it has been built."""
    root = _root_path(places, recipe)
    return root if root.is_dir() else None


def prepare_root(places: Places, recipe: Recipe, *, progress: Progress) -> Path:
    """The root file system of a recipe: from the cache, or built now (some 200 MB, some 20 s).

    Raises:
        ToolMissing: mmdebstrap or unshare is not installed.
        SpaceExhausted: too little room for it.
        InProgress: another run has been building it for ten minutes.
        LabFailed: mmdebstrap fails; the message carries the end of its log.
    """
    root = cached_root(places, recipe)
    if root is not None:
        return root
    require_root()
    require_tools(BUILD_TOOLS)
    with locked(places.cache, wait=_BUILD_WAIT, create=True):
        root = cached_root(places, recipe)  # another run may have built it while this one waited
        if root is not None:
            return root
        _remove_partials(places.cache)
        check_space(places.cache, _NEEDED_BYTES, "the practice nodes' root file system")
        what = "QEMU" if recipe.variant == "extract" else "the root file system of practice nodes"
        progress.note(f"building {what} ({recipe.suite}), once")
        return _build(places, recipe)


def _build(places: Places, recipe: Recipe) -> Path:
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=places.cache) as name:
        partial = Path(name)
        sources = partial / "archive.list"
        sources.write_text(archive_sources(recipe), "utf-8")
        run_build(build_command(recipe, str(partial / "root"), str(sources)))
        _finish(partial / "root", recipe)
        target = _root_path(places, recipe)
        target.parent.mkdir(exist_ok=True)
        (partial / "root").rename(target)
    return target


def run_build(command: list[str]) -> None:
    """Run a build's command to its end.

    Raises:
        LabFailed: it fails; the message carries the end of what it printed.
    """
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as build:
        pipe = build.stdout
        if pipe is None:
            raise RuntimeError("asked for a pipe, got none")
        try:
            log = pipe.read()
        except BaseException:
            build.kill()
            # The pipe ends when the last process of the build has, and only then can its folder go.
            pipe.read()
            raise
    if build.returncode != 0:
        lines = log.decode("utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        raise LabFailed(
            f"mmdebstrap could not build the root file system (exit code {build.returncode})",
            found="\n         ".join(lines),
            wanted="a reachable package archive, configured as this machine's own apt is",
            hint="run `appliance lab prepare` where the archive can be reached; for virtual machines,"
            " `appliance lab prepare --machine`",
        )


def _finish(root: Path, recipe: Recipe) -> None:
    """Take out what belongs to the building machine or to one node; write what all nodes share."""
    for pattern in recipe.removed:
        for path in root.glob(pattern):
            path.unlink()
    for name, text in recipe.written.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        if text.startswith("#!"):
            path.chmod(0o755)
    for name, target in recipe.linked.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


def archive_sources(recipe: Recipe) -> str:
    """An apt source list for the recipe's suite, from this station's settings or its own apt."""
    from appliance.sources.apt_repositories import archive_keyring, repositories
    from appliance.sources.station import read_settings

    settings = read_settings(os.environ).debian
    keyring = archive_keyring(settings)
    return "".join(repository.line(keyring) for repository in repositories(recipe.suite, settings))


def _root_path(places: Places, recipe: Recipe) -> Path:
    return places.cache / recipe.digest / "root"


def remove_abandoned(places: Places) -> None:
    """Remove what a killed build left in the cache, unless a build is running."""
    with contextlib.suppress(InProgress, FileNotFoundError), locked(places.cache, wait=0):
        _remove_partials(places.cache)


def _remove_partials(cache: Path) -> None:
    for leftover in cache.glob(".partial-*"):
        shutil.rmtree(leftover)


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raises SpaceExhausted unless ``folder`` has room for ``needed`` bytes of ``what``."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SpaceExhausted(
            f"too little room for {what}",
            found=f"{free / 1e6:,.0f} MB free in {folder}",
            wanted=f"{needed / 1e6:,.0f} MB",
            hint="make room, or set APPLIANCE_LAB_CACHE and APPLIANCE_LAB_FOLDER to a larger disk",
        )
