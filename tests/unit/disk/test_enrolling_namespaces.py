"""One drive of several namespaces: one owner, one reset, and only one of them is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import DriveUnsuitable
from tests.unit.disk.bench import BenchDoer
from tests.unit.disk.drives import top
from tests.unit.disk.test_enrolling import CutOff, run, stop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def beside_the_root(read: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """The same drive has a second namespace, which the node starts from."""

    def both() -> dict[str, Any]:
        readings = read()
        other = {**readings["drives"][0], "name": "nvme0n2", "namespace": "2"}
        other["luks"] = {"status": 1, "json": "", "uuid": ""}
        tree = [*readings["tree"], top("nvme0n2", fstype="ext4", mountpoints=["/"])]
        return {**readings, "drives": [*readings["drives"], other], "tree": tree}

    return both


def test_an_empty_namespace_beside_the_root_is_refused(tmp_path: Path) -> None:
    doer = BenchDoer()
    doer.read = beside_the_root(doer.read)  # type: ignore[method-assign]
    with pytest.raises(DriveUnsuitable, match=r"encrypted: namespaces$"):
        run(doer, tmp_path)
    assert (doer.attempts, list(tmp_path.iterdir())) == ([], [])


def test_a_reset_that_would_end_the_root_is_refused(tmp_path: Path) -> None:
    doer = BenchDoer()
    doer.before_header = stop
    with pytest.raises(CutOff):
        run(doer, tmp_path)
    doer.reset = lambda *_: pytest.fail("the root would be gone")  # type: ignore[method-assign]
    doer.read = beside_the_root(doer.read)  # type: ignore[method-assign]
    with pytest.raises(DriveUnsuitable, match="namespaces"):
        run(doer, tmp_path, reset=True)


def test_a_namespace_is_not_taken_for_the_one_that_was_enrolled(tmp_path: Path) -> None:
    """Nobody is told to restore the header of the one onto the other."""
    doer = BenchDoer()
    run(doer, tmp_path)
    doer.write(b"")
    read = doer.read

    def other() -> dict[str, Any]:
        readings = read()
        readings["drives"][0]["namespace"] = "2"
        return readings

    doer.read = other  # type: ignore[method-assign]
    with pytest.raises(DriveUnsuitable, match="owned") as raised:
        run(doer, tmp_path, reset=True)
    assert "--header" not in str(raised.value.hint)


def test_an_enrolled_namespace_has_no_keys_of_another(tmp_path: Path) -> None:
    doer = BenchDoer()
    run(doer, tmp_path)
    read = doer.read

    def other() -> dict[str, Any]:
        readings = read()
        readings["drives"][0]["namespace"] = "2"
        return readings

    doer.read = other  # type: ignore[method-assign]
    with pytest.raises(DriveUnsuitable, match="other-namespace"):
        run(doer, tmp_path)
