"""One licence, one name: however it is spelled, and without guessing."""

from __future__ import annotations

import pytest

from appliance.bundle.licences import normalised, spdx


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("MIT", "MIT"),
        ("MIT License", "MIT"),
        ("Expat", "MIT"),
        ("mit", "MIT"),
        ("GPL-2", "GPL-2.0-only"),
        ("GPL-2.0", "GPL-2.0-only"),
        ("GPL-2.0.0", "GPL-2.0-only"),
        ("GPL-2.0-only", "GPL-2.0-only"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("Apache-2", "Apache-2.0"),
        ("ISC License (ISCL)", "ISC"),
        ("GNU General Public License v3 or later (GPLv3+)", "GPL-3.0-or-later"),
        ("Apache Software License AND MIT License", "Apache Software License AND MIT"),
        ("Expat AND MIT AND permissive", "MIT AND permissive"),
        ("zlib AND BSD-3-clause", "BSD-3-Clause AND Zlib"),
        ("(GPL-2+ or Expat) AND BSD-3-clause", "(GPL-2.0-or-later OR MIT) AND BSD-3-Clause"),
        ("MIT or Apache-2", "MIT OR Apache-2.0"),
        ("MIT AND Apache-2 OR ISC", "MIT AND Apache-2.0 OR ISC"),
        ("Some words of its own", "Some words of its own"),
        ("BSD License", "BSD License"),
        ("()) AND ((", "()) AND (("),
        ("", ""),
    ],
)
def test_spellings_of_one_licence_are_one(stated: str, name: str) -> None:
    assert normalised(stated) == name
    assert normalised(name) == name


def test_only_what_is_wholly_spdx_is_called_so() -> None:
    assert spdx("Expat AND GPL-2") == "GPL-2.0-only AND MIT"
    assert spdx("Expat AND permissive") is None
    assert spdx("Apache Software License") is None  # of which version?
