"""Debian packages: a closure from nothing, resolved by apt and laid out as a flat apt repository.

The component holds every package that an empty system would need, so that it is complete whatever
version a node happens to have.  ``Packages``, its index, is made from the .debs themselves: the locked
digests determine its bytes, and building needs no resolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from appliance.definition.components import ArchiveArea
from appliance.definition.lock import Artefact
from appliance.sources.apt import AptFailed, AptRoot, Package, private_root
from appliance.sources.apt_diagnosis import check_applied, check_offered, not_fetched, unresolvable
from appliance.sources.apt_repositories import (
    archive_keyring,
    check_places,
    named_repositories,
    repositories,
)
from appliance.sources.deb_file import index_entry, licences
from appliance.sources.kinds import UNKNOWN, Source, by_path
from appliance.sources.known_licences import of_deb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from appliance.definition.components import Debian
    from appliance.definition.lock import OriginKey
    from appliance.sources.kinds import Where

INDEX: Final = "Packages"
GENERATOR: Final = "debian-index 1"


class DebianPackages(Source):
    """Packages from the Debian archive that this station's apt, or its settings, name.

    And from what other repositories its settings know and a definition names; those of Debian's own that
    these replace are not kept out: a lock says of each package where it is from.
    """

    # apt fetches where the store cannot see it; and complete components share most packages.
    in_turn = True

    def resolve(self, spec: Debian, where: Where) -> list[Artefact]:
        """All packages that ``spec.packages`` need in the target's suite.

        Raises:
            PackageMissing, DefinitionInvalid: a package does not exist, they exclude each other, or one of
                ``spec.versions`` applies to none of them.
            ArchiveUntrusted, SourceUnreachable: see ``AptRoot.update``.
            SettingsInvalid: this station does not know a repository, or two are at one address.
        """
        newer = f"/{self.target.suite}-backports"
        asked = [name + newer * (name in spec.backports) for name in spec.packages]
        with self._root(spec.areas, spec.repositories, spec.versions, bool(spec.backports)) as root:
            root.update()
            try:
                packages = root.closure(asked)
            except AptFailed as fault:
                raise unresolvable(root, asked, where, fault) from fault
        check_applied(spec.versions, packages, where)
        return [_artefact(package, self.target.suite) for package in packages]

    def fetch(self, artefacts: Sequence[Artefact]) -> None:
        """Bring the locked packages into the store, and make the index from them.

        Raises:
            PackageMissing: a locked version has left the archive.
            DigestMismatch: the archive has other bytes under the same version.
            ArchiveUntrusted, SourceUnreachable: see ``AptRoot.update``.
            SpaceExhausted: the store's disk is full.
        """
        debs = [artefact for artefact in artefacts if artefact.path != INDEX]
        if absent := self.missing(debs):
            closure = [_package(deb) for deb in debs]
            with self._root(_areas(debs), _archives(debs), {}, any(map(_is_backport, debs))) as root:
                root.update()
                check_offered(root, closure)
                self._download(root, closure, [_package(deb) for deb in absent])
        for index in self.missing([artefact for artefact in artefacts if artefact.path == INDEX]):
            self.keep_again(index, self._index(debs))

    def describe(self, artefacts: Sequence[Artefact]) -> list[Artefact]:
        """With the licences the packages state, and the index ``Packages``."""
        store = self.station.store
        stated = licences({deb.name: of_deb(store, deb.sha256, deb.name) for deb in artefacts})
        described = [deb.model_copy(update={"licence": stated[deb.name]}) for deb in artefacts]
        index = self.keep(INDEX, self._index(described), generator=GENERATOR, licence="CC0-1.0")
        return by_path([*described, index])

    def _root(
        self,
        areas: Sequence[str] | None,
        named: Sequence[str],
        versions: Mapping[str, str],
        backports: bool,
    ) -> AbstractContextManager[AptRoot]:
        settings = self.station.settings
        debian = repositories(self.target.suite, settings.debian, areas, backports=backports)
        asked = (*debian, *named_repositories(named, settings))
        check_places(asked)
        return private_root(
            self.station.store.folder / "apt",
            self.target.architecture,
            asked,
            archive_keyring(settings.debian),
            self.station.stop,
            versions=versions,
        )

    def _index(self, debs: Sequence[Artefact]) -> bytes:
        """``Packages`` of the flat repository: one paragraph per package, sorted by file name."""
        store = self.station.store
        entries = [
            index_entry(store.path(deb.sha256), deb.path, deb.sha256, deb.size)
            for deb in sorted(debs, key=lambda deb: deb.path)
        ]
        return "\n".join(entries).encode()

    def _download(self, root: AptRoot, closure: Sequence[Package], wanted: Sequence[Package]) -> None:
        """Let apt fetch ``wanted``, which completes ``closure``, and move it into the store."""
        store, progress, stop = self.station.store, self.station.progress, self.station.stop
        for package in closure:  # what the store holds, apt need not fetch
            place = root.archives / package.cached
            if package not in wanted and not place.exists():
                place.hardlink_to(store.path(package.sha256))
        total, told = sum(package.size for package in wanted), 0

        def advanced(percent: float) -> None:
            nonlocal told
            reached = max(told, int(total * percent / 100))
            progress.advance(reached - told)
            told = reached

        try:
            root.download([package.pinned for package in closure], advanced)
        except AptFailed as fault:
            raise not_fetched(root, wanted, fault) from fault
        progress.advance(total - told)
        for package in wanted:
            with store.fetch(package.sha256, package.size, package.file, stop, progress.beside) as partial:
                if partial:
                    store.replace(partial, root.archives / package.cached, stop)
            progress.item(package.file)
        for package in closure:
            (root.archives / package.cached).unlink(missing_ok=True)


def _areas(debs: Sequence[Artefact]) -> tuple[str, ...] | None:
    """The archive areas that locked packages came from; None where the station's own will do."""
    of_debian = (deb.origin["component"] for deb in debs if "archive" not in deb.origin)
    found = set(of_debian) & set(get_args(ArchiveArea))
    return tuple(sorted(found | {"main"})) if found - {"main"} else None


def _archives(debs: Sequence[Artefact]) -> tuple[str, ...]:
    """The repositories beside Debian's archive that locked packages came from."""
    return tuple(sorted({deb.origin["archive"] for deb in debs if "archive" in deb.origin}))


def _is_backport(deb: Artefact) -> bool:
    """Whether a package came from the backports."""
    return deb.origin["suite"].endswith("-backports")


def _artefact(package: Package, suite: str) -> Artefact:
    backport = "~bpo" in package.version and not package.archive
    # A version of the backports ends in ~bpo and the release's number; apt does not say where it took it.
    origin: dict[OriginKey, str] = {
        "kind": "debian",
        "suite": f"{suite}-backports" if backport else suite,
        "component": package.component,
        "package": package.name,
        "architecture": package.architecture,
        "upstream": "sha256",  # of the signed index; apt and the store compare it
    }
    if package.archive:
        origin["archive"] = package.archive
    if package.source:
        origin["source"] = package.source
    if package.source_version:
        origin["source_version"] = package.source_version
    return Artefact(
        path=package.file,
        name=package.name,
        version=package.version,
        size=package.size,
        sha256=package.sha256,
        licence=UNKNOWN,
        origin=origin,
    )


def _package(artefact: Artefact) -> Package:
    """What apt has to be asked for, from the lock."""
    return Package(
        name=artefact.name,
        version=artefact.version,
        architecture=artefact.origin["architecture"],
        section="",
        file=artefact.path,
        size=artefact.size,
        sha256=artefact.sha256,
    )
