"""The digests of a model's files, compared before each start."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.roles.conftest import load

PROGRAM = Path(__file__).parents[3] / "roles/inference_server/files/check_model.py"
checking = load(PROGRAM, "check_model")

FILES = {"config.json": b"{}", "model-1.safetensors": b"1" * 5_000_000, "deep/er/tokenizer.json": b"t"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with the model; the list is beside it."""
    folder = tmp_path / "model"
    for name, data in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    lines = [f"{hashlib.sha256(data).hexdigest()}  {folder / name}\n" for name, data in FILES.items()]
    (tmp_path / "model.sha256").write_text("".join(lines))
    return folder


def check(model: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-I",
        "-S",
        "-B",
        str(PROGRAM),
        str(model.parent / "model.sha256"),
        str(model),
    ]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_what_was_signed_is_let_through_and_counted(model: Path) -> None:
    done = check(model)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 files, 5,000,003 bytes, compared in ")


def test_the_list_is_what_sha256sum_reads(model: Path) -> None:
    command = ["sha256sum", "--check", "--strict", "--quiet", str(model.parent / "model.sha256")]
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize("name", FILES)
def test_every_changed_and_every_missing_file_is_named(model: Path, name: str) -> None:
    path = model / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    done = check(model)
    assert done.returncode == 1
    assert done.stderr == (
        f"the model is not as it was signed: {path}: found {hashlib.sha256(data).hexdigest()}, "
        f"wanted {hashlib.sha256(FILES[name]).hexdigest()}\n"
    )
    path.unlink()
    assert f"{path}: found No such file or directory, wanted" in check(model).stderr


@pytest.mark.parametrize("name", ["modeling_evil.py", "deep/er/extra", "deep/.hidden", "link", "folder"])
def test_what_nobody_signed_is_not_let_lie_there(model: Path, name: str) -> None:
    """An engine reads what it finds; a link leads wherever whoever made it wants."""
    if name == "link":
        (model / name).symlink_to(model / "config.json")
    elif name == "folder":
        (model / name).symlink_to(model / "deep")
    else:
        (model / name).touch()
    done = check(model)
    assert done.returncode == 1
    assert done.stderr == (
        f"the model is not as it was signed: {model / name}: found a file that the bundle does not name\n"
    )


@pytest.mark.parametrize(
    "text", ["", "nonsense\n", f"{'a' * 63}  /x\n", f"{'a' * 64}  x\n", f"{'a' * 64} /x\n"]
)
def test_a_list_that_is_none_lets_nothing_through(model: Path, text: str) -> None:
    (model.parent / "model.sha256").write_text(text)
    assert check(model).returncode == 1
    with pytest.raises(ValueError, match="list"):
        checking.read_list(text)
