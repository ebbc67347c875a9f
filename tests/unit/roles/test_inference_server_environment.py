"""The module ``wheel_environment``, with a real pip, real environments and a wheel made here."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Apply = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def environment(role_module: Callable[[str], Any]) -> Any:
    return role_module("inference_server/library/wheel_environment.py")


@pytest.fixture(scope="module")
def pip_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This station's pip, packed as the wheel that a bundle carries."""
    found = find_spec("pip")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    wheel = tmp_path_factory.mktemp("toolkit") / f"pip-{version('pip')}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in sorted(package.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(package.parent))
    return wheel


def record_row(path: str, text: str) -> str:
    digest = urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(text)}\n"


def add_wheel(
    folder: Path,
    *,
    name: str = "engine",
    requires: str = "",
    source: str = "ANSWER = 42\n",
    shared: str = "",
) -> str:
    """Write a small wheel (PEP 427); returns its line for requirements.txt."""
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": source,
        **({"build_backend.py": shared} if shared else {}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(map(record_row, files, files.values())) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


@pytest.fixture
def options(tmp_path: Path, pip_wheel: Path) -> dict[str, Any]:
    """Module options for a folder with one good wheel."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "requirements.txt").write_text(add_wheel(wheels))
    return {
        "path": str(tmp_path / "opt/release/venv"),
        "wheels": str(wheels),
        "requirements": "requirements.txt",
        "installer": str(pip_wheel),
        "imports": ["engine"],
        "python": sys.executable,
        "programs": [{"path": str(tmp_path / "opt/release/serve.py"), "text": "print('hello')\n"}],
    }


@pytest.fixture
def apply(environment: Any, options: dict[str, Any]) -> Apply:
    """Runs the module with the test's options."""

    def run(*, check_mode: bool = False) -> dict[str, Any]:
        result: dict[str, Any] = environment.ensure(options, check_mode=check_mode)
        return result

    return run


def installed(options: dict[str, Any]) -> Path:
    return next(Path(options["path"]).glob("lib/python3*/site-packages/engine.py"))


def test_a_file_that_two_wheels_bring_is_no_damage(options: dict[str, Any], apply: Apply) -> None:
    """Else an environment of gigabytes is built, and its server restarted, at every run."""
    wheels = Path(options["wheels"])
    lines = [add_wheel(wheels, shared="a = 1\n"), add_wheel(wheels, name="other", shared="longer = 2\n")]
    (wheels / "requirements.txt").write_text("".join(lines))
    assert apply()["changed"]
    assert not apply(check_mode=True)["changed"]
    installed(options).with_name("build_backend.py").write_text("neither\n")
    (reason,) = apply(check_mode=True)["reasons"]
    assert reason.endswith("build_backend.py")


def test_installs_once_then_finds_nothing_to_do_and_notices_every_damage(
    environment: Any, options: dict[str, Any], apply: Apply
) -> None:
    first = apply()
    assert (first["changed"], first["reasons"]) == (True, ["absent"])
    assert "engine==1.0" in first["diff"][0]["after"]
    assert apply() == {"changed": False, "reasons": [], "diff": []}
    assert apply(check_mode=True) == {"changed": False, "reasons": [], "diff": []}
    assert sorted(path.name for path in Path(options["path"]).iterdir() if path.is_dir()) == [
        *("bin", "include", "lib", "lib64"),
    ], "nothing of the installer"

    installed(options).write_text("ANSWER = 421\n")
    (reason,) = apply(check_mode=True)["reasons"]
    assert reason.startswith("damaged: ")
    assert reason.endswith("engine.py")

    installed(options).unlink()
    assert apply(check_mode=True)["changed"]
    assert not list(Path(options["path"]).glob("lib/python3*/site-packages/engine.py")), (
        "check mode repaired"
    )
    assert apply()["changed"]
    assert installed(options).read_text() == "ANSWER = 42\n"

    # A run cut off before its end leaves no record.
    (Path(options["path"]) / environment.RECORD).unlink()
    assert apply(check_mode=True)["reasons"] == ["incomplete"]

    wheels = Path(options["wheels"])
    line = add_wheel(wheels, source="ANSWER = 43\n")
    (wheels / "requirements.txt").write_text(line)
    assert apply()["changed"]
    assert installed(options).read_text() == "ANSWER = 43\n"


def test_other_requirements_or_another_python_are_reasons_to_build(
    environment: Any, tmp_path: Path
) -> None:
    wanted = environment.wanted_record(b"a==1 --hash=sha256:0\n", "3.13")
    (tmp_path / environment.RECORD).write_text(str(wanted).replace("'", '"'))
    assert environment.reasons_to_build(tmp_path, wanted) == []
    other_python = environment.wanted_record(b"a==1 --hash=sha256:0\n", "3.14")
    assert environment.reasons_to_build(tmp_path, other_python) == ["python was 3.13, is 3.14"]
    other_wheels = environment.wanted_record(b"a==2 --hash=sha256:0\n", "3.13")
    (reason,) = environment.reasons_to_build(tmp_path, other_wheels)
    assert reason.startswith("requirements was ")


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b"\xff"])
def test_an_unreadable_record_counts_as_incomplete(environment: Any, tmp_path: Path, record: bytes) -> None:
    (tmp_path / environment.RECORD).write_bytes(record)
    wanted = environment.wanted_record(b"", "3.13")
    assert environment.reasons_to_build(tmp_path, wanted) == ["incomplete"]


def test_a_rehearsal_before_anything_is_staged_says_what_would_come(
    options: dict[str, Any], apply: Apply
) -> None:
    (Path(options["wheels"]) / "requirements.txt").unlink()
    rehearsed = apply(check_mode=True)
    assert rehearsed["changed"]
    assert [entry["after"] for entry in rehearsed["diff"]] == ["not staged yet\n", "print('hello')\n"]
    assert not Path(options["path"]).parent.exists()


def test_wheels_for_several_pythons_are_taken_by_the_nodes_own(
    options: dict[str, Any], apply: Apply
) -> None:
    """And a program that the wheels bring themselves needs no launcher of ours."""
    wheels = Path(options["wheels"])
    version = ".".join(map(str, sys.version_info[:2]))
    (wheels / "requirements.txt").rename(wheels / f"requirements-{version}.txt")
    options |= {"requirements": "requirements-{python}.txt", "programs": []}
    assert apply()["changed"]
    assert installed(options).is_file()
    assert not apply()["changed"]


def test_what_python_compiled_anew_is_no_damage(options: dict[str, Any], apply: Apply) -> None:
    """What pip compiled it records with its size; Python writes it again when it likes."""
    apply()
    (record,) = Path(options["path"]).glob("lib/python3*/site-packages/engine-*.dist-info/RECORD")
    cached = installed(options).parent / "__pycache__" / "engine.cpython-311.pyc"
    cached.parent.mkdir(exist_ok=True)
    cached.write_bytes(b"longer than it was")
    name = cached.relative_to(record.parents[1])
    record.write_text(record.read_text() + f"{name},sha256=x,3\n")
    assert not apply()["changed"]


@pytest.mark.parametrize("touch", ["chmod 600", "rm", "echo other >", "ln -sf /dev/null"])
def test_the_launcher_is_put_in_place_again_whatever_happened_to_it(
    options: dict[str, Any], apply: Apply, touch: str
) -> None:
    apply()
    launcher = Path(options["programs"][0]["path"])
    subprocess.run(f"{touch} {launcher}", shell=True, check=True)  # noqa: S602 - one of the words above

    rehearsed = apply(check_mode=True)
    assert (rehearsed["changed"], rehearsed["reasons"]) == (True, [])
    assert apply()["diff"] == rehearsed["diff"]
    assert (launcher.is_symlink(), launcher.read_text()) == (False, options["programs"][0]["text"])
    assert f"{launcher.stat().st_mode:o}" == "100644"
    assert not apply()["changed"]
    assert [path.name for path in launcher.parent.iterdir() if path.name.startswith(".")] == []


def spoil_hash(options: dict[str, Any]) -> None:
    requirements = Path(options["wheels"], "requirements.txt")
    requirements.write_text("engine==1.0 --hash=sha256:" + "0" * 64 + "\n")


def spoil_pin(options: dict[str, Any]) -> None:
    Path(options["wheels"], "requirements.txt").write_text("engine==1.0\n")


def spoil_wheels(options: dict[str, Any]) -> None:
    next(Path(options["wheels"]).glob("*.whl")).unlink()


def spoil_source(options: dict[str, Any]) -> None:
    wheels = Path(options["wheels"])
    line = add_wheel(wheels, source="import no_such_library\n")
    (wheels / "requirements.txt").write_text(line)


def spoil_closure(options: dict[str, Any]) -> None:
    wheels = Path(options["wheels"])
    line = add_wheel(wheels, requires="Requires-Dist: no-such-distribution\n")
    (wheels / "requirements.txt").write_text(line)


def spoil_requirements(options: dict[str, Any]) -> None:
    Path(options["wheels"], "requirements.txt").unlink()


def spoil_installer(options: dict[str, Any]) -> None:
    options["installer"] = "/nonexistent/pip.whl"


def spoil_installer_wheel(options: dict[str, Any]) -> None:
    options["installer"] = str(Path(options["wheels"], "pip.whl"))
    Path(options["installer"]).write_bytes(b"nonsense")


def spoil_python(options: dict[str, Any]) -> None:
    options["python"] = "/bin/false"


@pytest.mark.parametrize(
    ("spoil", "message", "found"),
    [
        (spoil_hash, "cannot install the wheels", "HASH"),
        (spoil_pin, "cannot install the wheels", "--require-hashes"),
        (spoil_wheels, "cannot install the wheels", "No matching distribution found for engine==1.0"),
        (spoil_source, "engine was installed but does not import", "no_such_library"),
        (spoil_closure, "the wheels do not fit together", "no-such-distribution"),
        (spoil_requirements, "there are no wheels to install", "no such file"),
        (spoil_installer, "there is nothing to install wheels with", "no such file"),
        (spoil_installer_wheel, "there is nothing to install wheels with", "not a zip file"),
        (spoil_python, "the node's Python does not run", ""),
    ],
)
def test_what_cannot_be_built_is_refused_and_never_counts_as_complete(  # noqa: PLR0917 - fixtures and cases
    environment: Any, options: dict[str, Any], apply: Apply, spoil: Any, message: str, found: str
) -> None:
    spoil(options)
    with pytest.raises(environment.CannotBuild) as refused:
        apply()
    assert refused.value.args[0] == message
    assert found in refused.value.args[1]
    assert refused.value.args[2]
    assert environment.read_record(Path(options["path"])) is None
    assert not Path(options["programs"][0]["path"]).exists()


def test_settings_of_the_nodes_own_pip_do_not_count(
    options: dict[str, Any], apply: Apply, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index named by the environment would otherwise be asked."""
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "nonsense")
    monkeypatch.setenv("PIP_TARGET", "/nonexistent")
    monkeypatch.setenv("PYTHONPATH", "/nonexistent")
    assert apply()["changed"]
    assert installed(options).is_file()
