"""Which of the places where a wheel can state its licence counts."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from appliance.sources.wheel_metadata import licence

if TYPE_CHECKING:
    from pathlib import Path

OSI = "Classifier: License :: OSI Approved ::"


@pytest.mark.parametrize(
    ("fields", "stated"),
    [
        (["License-Expression: Apache-2.0 OR MIT", f"{OSI} BSD License"], "Apache-2.0 OR MIT"),
        ([f"{OSI} MIT License", "License: Apache-2.0"], "MIT License"),
        ([f"{OSI} MIT License", f"{OSI} BSD License"], "BSD License AND MIT License"),
        ([f"{OSI} Apache Software License"], "Apache Software License"),
        ([f"{OSI} Apache Software License", "License: Apache-2.0"], "Apache-2.0"),
        ([f"{OSI} Apache Software License", "License: Apache, some of it"], "Apache Software License"),
        (["License: Some words"], "Some words"),
        (["License: MIT\n  and a whole text"], None),
        (["License: " + "x" * 101], None),
        ([], None),
    ],
)
def test_the_clearest_statement_counts(tmp_path: Path, fields: list[str], stated: str | None) -> None:
    path = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("x-1.dist-info/METADATA", "\n".join(["Metadata-Version: 2.4", *fields, "", ""]))
    assert licence(path) == stated
