"""The page: complete, self-contained, and nothing from a bundle becomes part of it but text."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.comparison import compare
from appliance.bundle.inspection import inspect_bundle
from appliance.bundle.inspection_page import check_place, render, write_page
from appliance.bundle.packages import packages
from appliance.bundle.sign import sign_bundle
from appliance.errors import Usage
from appliance.progress import Silent
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.bundle.inspection import Inspection
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders

_VOID = {"meta", "input", "br"}


class Page(HTMLParser):
    """Elements with their attributes, the text, and whether everything that opens is closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> str:
        return "".join(self.texts.get(tag, ()))


def inspect(folder: Path, root: Root | None = None) -> Inspection:
    trusted = root_bytes(root) if root else None
    return inspect_bundle(folder, trusted=trusted, progress=Silent())


def test_it_refers_to_nothing_outside_itself(bundle: Path) -> None:
    page = Page(render(inspect(bundle), None, files=True))
    for tag, attributes in page.elements:
        assert not attributes.keys() & {"src", "href", "srcset", "style", "action", "data", "poster"}, tag
        assert not any(name.startswith("on") for name in attributes), tag
    assert not re.search(r"url\(|@import|@font-face", page.text("style"))
    assert not re.search(r"fetch|XMLHttp|import\(|eval|innerHTML", page.text("script"))
    assert {"link", "img", "iframe", "object", "embed", "base", "form"} & {
        tag for tag, _ in page.elements
    } == set()


def test_its_policy_allows_its_own_lines_and_nothing_else(bundle: Path) -> None:
    text = render(inspect(bundle), None, files=False)
    page = Page(text)
    (policy,) = [
        each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_it_says_loudly_that_nothing_was_verified(bundle: Path, two_of_three: Root) -> None:
    text = render(inspect(bundle), None, files=False)
    assert text.count("NOT VERIFIED") >= 4  # title, banner, both signatures
    verified = render(inspect(bundle, two_of_three), None, files=False)
    assert "NOT VERIFIED" not in verified
    assert two_of_three.fingerprint in Page(verified).text("code")


def test_it_says_how_many_must_sign_and_who(bundle: Path, two_of_three: Root) -> None:
    verified = render(inspect(bundle, two_of_three), None, files=False)
    assert "Signed by alice, bob, where 2 of alice, bob, carol must sign" in verified
    assert "which nobody trusted" not in verified
    assert "says the root in the bundle, which nobody trusted" in render(inspect(bundle), None, files=False)
    assert "solo" not in verified


@pytest.mark.parametrize("carried", [True, False])
def test_it_says_that_one_person_alone_can_release(
    maker: BundleMaker, holders: Holders, *, carried: bool
) -> None:
    root = holders.root("alice", solo=True)
    bundle = maker.write("solo", root if carried else None)
    sign_bundle(bundle, holders.key("alice"), holder="alice")
    assert "solo: one person alone can release" in render(inspect(bundle, root), None, files=False)
    assert ("solo" in render(inspect(bundle), None, files=False)) is carried


def test_numbers_are_to_be_read_and_licences_stand_after_the_packages(bundle: Path) -> None:
    seen = inspect(bundle)
    model = seen.manifest.components["model"]
    files = (replace(model.files[0], size=141_107_412_992, licence="Expat"),)
    extras = seen.manifest.components["extras"]
    components = {
        **seen.manifest.components,
        "model": replace(model, files=files),
        "extras": replace(extras, files=tuple(replace(file, licence="MIT") for file in extras.files)),
    }
    manifest = replace(seen.manifest, components=components)
    text = render(replace(seen, manifest=manifest, packages=tuple(packages(manifest))), None, files=False)
    assert 'title="141,107,412,992 bytes">141.1 GB<' in text
    assert "3 components, 4 packages,\n" in text
    assert text.index("<h2>Packages</h2>") < text.index("<h2>Licences</h2>")
    assert '<tr><td>MIT</td><td class="number" data-value="2">2</td>' in text
    assert "Expat" not in text


def test_it_shows_all_that_a_reviewer_asks_for(bundle: Path) -> None:
    seen = inspect(bundle)
    text = render(seen, None, files=False)
    for expected in (
        seen.digest,
        "demo 1.0.0",
        "CC0-1.0",
        "tiny.gguf",
        "alice",
        "ssh-ed25519",
        "blocks.bin",
        *(package.name for package in seen.packages),
        *(package.sha256 for package in seen.packages if package.sha256),
    ):
        assert expected in text
    assert "payload/extras/site/notice.txt" not in text
    assert "payload/extras/site/notice.txt" in render(seen, None, files=True)


def test_text_of_a_bundle_stays_text(bundle: Path) -> None:
    """Names, versions, licences, origins: any printable text may stand in a manifest."""
    evil = "</td></script><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}{%raw%}\"'&lt;"
    seen = inspect(bundle)
    engine = seen.manifest.components["engine"]
    files = tuple(
        replace(file, name=evil, version=evil, licence=evil, origin={"kind": evil, "project": evil})
        for file in engine.files
    )
    components = {**seen.manifest.components, "engine": replace(engine, files=files)}
    manifest = replace(seen.manifest, version=evil, created=evil, components=components)
    hostile = replace(seen, manifest=manifest, packages=tuple(packages(manifest)), notes=(evil,))
    text = render(hostile, compare(seen, hostile), files=True)
    page = Page(text)
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert evil in page.text("td")
    assert evil in page.text("h1")
    assert evil in page.text("title")


def test_what_changed_is_shown(maker: BundleMaker, bundle: Path) -> None:
    lock = maker.lock().model_copy(update={"sequence": 6, "version": "0.9"})
    old = inspect(maker.write("old", None, lock))
    text = render(inspect(bundle), compare(old, inspect(bundle)), files=False)
    for expected in (
        "What changed since demo 0.9",
        "forward",
        "The other bundle was NOT VERIFIED",
        old.digest,
    ):
        assert expected in text
    back = render(old, compare(inspect(bundle), old), files=False)
    assert "BACK" in back


def test_what_was_exchanged_or_went_back_stands_out(bundle: Path) -> None:
    seen = inspect(bundle)
    extras = seen.manifest.components["extras"]
    engine = seen.manifest.components["engine"]
    python = {"kind": "python", "project": "engine"}
    many = [
        replace(extras.files[0], path=f"payload/extras/{number:02}", sha256=f"{number:064x}")
        for number in range(22)
    ]

    def version(text: str, digest: str) -> Inspection:
        wheel = replace(engine.files[0], name="engine", version=text, origin=python)
        files = tuple(replace(file, sha256=digest[0] + file.sha256[1:]) for file in many)
        components = {
            **seen.manifest.components,
            "engine": replace(engine, files=(wheel, *engine.files[1:])),
            "extras": replace(extras, files=files),
        }
        manifest = replace(seen.manifest, components=components)
        return replace(seen, manifest=manifest, packages=tuple(packages(manifest)))

    text = render(seen, compare(version("2.0", "a"), version("1.0", "b")), files=False)
    assert '<span class="bad">downgrade</span>' in text
    assert f"a{'0' * 62}3 → b{'0' * 62}3" in text
    assert "… and 2 more; " in text


def test_files_are_listed_only_if_asked_for(bundle: Path) -> None:
    """Of 200,000 files a page must stay one that a browser opens."""
    seen = inspect(bundle)
    extras = seen.manifest.components["extras"]
    many = tuple(replace(extras.files[0], path=f"payload/extras/{number:05}") for number in range(20_000))
    components = {**seen.manifest.components, "extras": replace(extras, files=many)}
    manifest = replace(seen.manifest, components=components)
    large = replace(seen, manifest=manifest, packages=tuple(packages(manifest)))
    assert len(render(large, None, files=False)) < len(render(seen, None, files=False)) + 500
    assert "payload/extras/19999" in render(large, None, files=True)


def test_the_same_bundle_gives_the_same_page(bundle: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.html", tmp_path / "two.html"
    write_page(one, inspect(bundle), None, files=True)
    write_page(two, inspect(bundle), None, files=True)
    assert one.read_bytes() == two.read_bytes()


def test_where_no_page_is_written(bundle: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    check_place(page, [bundle], replace=False)
    page.write_text("mine")
    with pytest.raises(Usage, match="exists already"):
        check_place(page, [bundle], replace=False)
    check_place(page, [bundle], replace=True)
    for place in (bundle / "page.html", bundle / "payload/page.html", bundle / ".." / "bundle" / "x.html"):
        with pytest.raises(Usage, match="lies in the bundle"):
            check_place(place, [bundle], replace=True)
    (tmp_path / "link").symlink_to(bundle)
    with pytest.raises(Usage, match="lies in the bundle"):
        check_place(tmp_path / "link" / "x.html", [bundle], replace=True)
    with pytest.raises(Usage, match="not a folder"):
        check_place(tmp_path / "nothing" / "x.html", [bundle], replace=True)
    with pytest.raises(Usage, match="exists already"):
        check_place(tmp_path, [bundle], replace=True)
