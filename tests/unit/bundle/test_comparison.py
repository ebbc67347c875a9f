"""What changed from one bundle to another."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.comparison import FileCounts, Replaced, compare
from appliance.bundle.inspection import inspect_bundle
from appliance.definition.lock import Artefact, Lock, LockedComponent
from appliance.progress import Silent
from tests.conftest import CONTENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.bundle.comparison import Comparison
    from tests.conftest import BundleMaker

    Change = Callable[[Lock], Lock]


def wheel(maker: BundleMaker, name: str, version: str, licence: str = "MIT", tag: str = "py3") -> Artefact:
    data = f"{name} {version} {tag} {licence}".encode()
    sha256, size = maker.store().add_bytes(data)
    return Artefact(
        path=f"{name}-{version}-{tag}-none-any.whl",
        name=name,
        version=version,
        size=size,
        sha256=sha256,
        licence=licence,
        origin={"kind": "python", "project": name},
    )


def with_engine(lock: Lock, *artefacts: Artefact) -> Lock:
    engine = LockedComponent(
        kind="python", artefacts=tuple(sorted(artefacts, key=lambda artefact: artefact.path))
    )
    return lock.model_copy(update={"components": {**lock.components, "engine": engine}})


@pytest.fixture
def between(maker: BundleMaker) -> Callable[[Lock, Lock], Comparison]:
    names = count()

    def run(old: Lock, new: Lock) -> Comparison:
        folders = [maker.write(f"bundle-{next(names)}", None, lock) for lock in (old, new)]
        before, after = (inspect_bundle(each, trusted=None, progress=Silent()) for each in folders)
        return compare(before, after)

    return run


def test_nothing_differs(maker: BundleMaker, between: Callable[[Lock, Lock], Comparison]) -> None:
    found = between(maker.lock(), maker.lock())
    assert (found.facts, found.added, found.removed, found.changed) == ((), (), (), ())
    assert (found.new_bytes, found.files, found.direction) == (0, FileCounts(), "the same bundle")


def test_added_removed_and_changed(maker: BundleMaker, between: Callable[[Lock, Lock], Comparison]) -> None:
    one, two = wheel(maker, "stays", "1"), wheel(maker, "goes", "1")
    new = wheel(maker, "moves", "2", licence="GPL-3.0-only")
    comes = wheel(maker, "comes", "1")
    lock = maker.lock()
    found = between(
        with_engine(lock, one, two, wheel(maker, "moves", "1")), with_engine(lock, one, new, comes)
    )
    assert [package.name for package in found.added] == ["comes"]
    assert [package.name for package in found.removed] == ["goes"]
    (pair,) = found.changed
    assert (pair.old.version, pair.new.version) == ("1", "2")
    assert pair.what == ("version", "licence")
    assert found.new_bytes == new.size + comes.size
    assert found.files == FileCounts(added=2, removed=2, changed=0)
    assert {fact.name for fact in found.facts} == {"lock"}


def test_the_same_version_with_other_bytes_is_said(
    maker: BundleMaker, between: Callable[[Lock, Lock], Comparison]
) -> None:
    old = wheel(maker, "x", "1")
    sha256, size = maker.store().add_bytes(b"rebuilt")
    lock = maker.lock()
    found = between(
        with_engine(lock, old), with_engine(lock, old.model_copy(update={"sha256": sha256, "size": size}))
    )
    assert [pair.what for pair in found.changed] == [("same version, other bytes",)]
    assert found.files.changed == 1
    assert found.changed[0].replaced == (
        Replaced("payload/engine/x-1-py3-none-any.whl", old.sha256, sha256),
    )


def test_the_digests_of_a_package_whose_file_has_another_name(
    maker: BundleMaker, between: Callable[[Lock, Lock], Comparison]
) -> None:
    old, new = wheel(maker, "x", "1"), wheel(maker, "x", "1", tag="cp313")
    lock = maker.lock()
    (pair,) = between(with_engine(lock, old), with_engine(lock, new)).changed
    assert pair.what == ("same version, other bytes",)
    assert pair.replaced == (Replaced("payload/engine/x-1-cp313-none-any.whl", old.sha256, new.sha256),)


def test_a_version_that_went_back_is_said(
    maker: BundleMaker, between: Callable[[Lock, Lock], Comparison]
) -> None:
    lock = maker.lock()
    new, old = with_engine(lock, wheel(maker, "x", "0.2.8")), with_engine(lock, wheel(maker, "x", "2026.1"))
    (pair,) = between(old, new).changed
    assert pair.what == ("version", "downgrade")
    assert pair.replaced == ()
    assert between(new, old).changed[0].what == ("version",)


def test_another_spelling_of_a_licence_is_no_change(
    maker: BundleMaker, between: Callable[[Lock, Lock], Comparison]
) -> None:
    lock, old = maker.lock(), wheel(maker, "x", "1", licence="MIT License")

    def said(licence: str) -> Lock:
        return with_engine(lock, old.model_copy(update={"licence": licence}))

    assert between(said("MIT License"), said("Expat")).changed == ()
    (pair,) = between(said("GPL-2"), said("GPL-2+")).changed
    assert pair.what == ("licence",)


def test_what_a_model_was_generated_from_is_its_origin(
    maker: BundleMaker, between: Callable[[Lock, Lock], Comparison]
) -> None:
    lock = maker.lock()
    (file,) = lock.components["model"].artefacts

    def saying(sentence: str) -> Lock:
        origin = {"kind": "generated", "generator": "tiny-gguf 1", "sentence": sentence}
        model = lock.components["model"].model_copy(
            update={"artefacts": (file.model_copy(update={"origin": origin}),)}
        )
        return lock.model_copy(update={"components": {**lock.components, "model": model}})

    (pair,) = between(saying("One."), saying("Another.")).changed
    assert pair.what == ("origin",)


def test_wheels_for_several_pythons_are_matched_each_with_its_own(
    maker: BundleMaker, between: Callable[[Lock, Lock], Comparison]
) -> None:
    tags = ("cp311", "cp312", "cp313")
    kept = [wheel(maker, "x", "1", tag=tag) for tag in tags]
    lock = maker.lock()
    found = between(with_engine(lock, *kept), with_engine(lock, *kept[:2]))
    assert [package.files[0].path[-21:] for package in found.removed] == ["x-1-cp313-none-any.whl"[-21:]]
    assert found.changed == ()


def test_a_set_of_files_is_one_change(
    maker: BundleMaker, between: Callable[[Lock, Lock], Comparison]
) -> None:
    def extras(**files: bytes) -> Lock:
        contents = {"extras": ("files", {name.replace("_", "."): data for name, data in files.items()})}
        return maker.lock({**CONTENTS, **contents})

    found = between(extras(a_txt=b"1", b_txt=b"2", c_txt=b"3"), extras(a_txt=b"1", b_txt=b"9", d_txt=b"3"))
    (pair,) = found.changed
    assert (pair.new.component, pair.what) == ("extras", ("files",))
    assert pair.files == FileCounts(added=1, removed=1, changed=1)
    assert [file.path for file in pair.replaced] == ["payload/extras/b.txt"]
    assert found.new_bytes == 1  # d.txt has the bytes of c.txt: the medium holds them


@pytest.mark.parametrize(
    ("change", "direction", "facts"),
    [
        ({"sequence": 8}, "forward", {"sequence", "lock"}),
        ({"sequence": 6}, "BACK: nodes refuse an older sequence", {"sequence", "lock"}),
        ({"version": "1.0.1"}, "the same sequence", {"version", "lock"}),
        ({"product": "other"}, "another product", {"product", "lock"}),
        ({"definition": "1" * 64}, "the same sequence", {"definition", "lock"}),
    ],
)
def test_direction_and_facts(
    change: dict[str, object],
    direction: str,
    facts: set[str],
    maker: BundleMaker,
    between: Callable[[Lock, Lock], Comparison],
) -> None:
    lock = maker.lock()
    found = between(lock, lock.model_copy(update=change))
    assert found.direction == direction
    assert {fact.name for fact in found.facts} == facts


def test_a_moved_origin_is_said(maker: BundleMaker, between: Callable[[Lock, Lock], Comparison]) -> None:
    old = wheel(maker, "x", "1")
    lock = maker.lock()
    moved = old.model_copy(update={"origin": {"kind": "python", "project": "x-of-another"}})
    found = between(with_engine(lock, old), with_engine(lock, moved))
    assert [pair.what for pair in found.changed] == [("origin",)]
    assert found.changed[0].files == FileCounts()
