"""A stock computer, a medium with a tiny program, and the paper beside it.

The program set up here is a tiny one, since what is under test is the way there.  The real one is set
up by tests/node/test_bootstrap.py, in containers without a network.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

# All that a stock system must have.
TOOLS = (
    *(
        "cat",
        "chmod",
        "comm",
        "cp",
        "cut",
        "df",
        "find",
        "grep",
        "head",
        "id",
        "mkdir",
        "rm",
        "rmdir",
        "sed",
    ),
    *("sh", "sha256sum", "sha384sum", "sort", "ssh-keygen", "tail", "tr", "uname"),
)
TOOLKIT = "payload/toolkit"
PROGRAM = "appliance-1.0-py3-none-any.whl"
NATIVE = "native-1.0-cp311-abi3-manylinux_2_17_x86_64.whl"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def program_wheel() -> bytes:
    """A program that says its name and version."""
    info = "appliance-1.0.dist-info"
    files = {
        "appliance.py": "def main():\n    print('appliance 1.0')\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: appliance\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nappliance = appliance:main\n",
        f"{info}/RECORD": "",
    }
    return wheel_bytes({name: text.encode() for name, text in files.items()})


def pip_wheel() -> bytes:
    """The pip of this environment."""
    files = metadata.distribution("pip").files or ()
    kept = [file for file in files if ".." not in file.parts and "__pycache__" not in file.parts]
    return wheel_bytes({str(file): Path(str(file.locate())).read_bytes() for file in kept})


def wheel_bytes(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
    return packed.getvalue()


def toolkit_files(*pythons: str) -> dict[str, bytes]:
    program = program_wheel()
    line = f"appliance==1.0 --hash=sha256:{hashlib.sha256(program).hexdigest()}\n".encode()
    return {
        PROGRAM: program,
        NATIVE: b"not in the requirements",
        f"pip-{metadata.version('pip')}-py3-none-any.whl": pip_wheel(),
        **{f"requirements-{python}.txt": line for python in pythons},
    }


@dataclass
class Desk:
    """A computer with stock tools, python3 and a shell; a person with the signers' file and a paper."""

    folder: Path
    signers: str
    shell: str = "sh"
    before: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path.mkdir()
        for tool in (*TOOLS, "bash"):
            where = shutil.which(tool)
            assert where, tool
            (self.path / tool).symlink_to(where)
        self.instead("python3", f'exec "{sys.executable}" "$@"')
        (self.folder / "signers").write_text(self.signers)

    @property
    def path(self) -> Path:
        return self.folder / "stock"

    @property
    def target(self) -> Path:
        return self.folder / "new"

    @property
    def paper(self) -> list[str]:
        """What is typed from the paper."""
        digest = hashlib.sha256(self.signers.encode()).hexdigest()
        return ["--signers", str(self.folder / "signers"), "--fingerprint", digest, "--threshold", "2"]

    def instead(self, tool: str, script: str) -> None:
        """Another program under the name of a tool; ``{real}`` is the tool itself."""
        file = self.path / tool
        real = shutil.which(tool)
        file.unlink(missing_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n".replace("{real}", str(real)))
        file.chmod(0o755)

    def command(self, script: Path | str, *options: str) -> list[str]:
        return [*self.before, str(self.path / self.shell), str(script), *options]

    def settings(self) -> dict[str, str]:
        return {"PATH": str(self.path), "HOME": "/nonexistent", **self.environment}

    def run(self, script: Path | str, *options: str, cwd: Path | None = None) -> tuple[int, str, str]:
        """Exit code, and what was said on stdout and stderr."""
        done = subprocess.run(
            self.command(script, *options),
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd or self.folder,
            env=self.settings(),
        )
        return done.returncode, done.stdout, done.stderr

    def set_up(self, medium: Path, *options: str) -> tuple[int, str, str]:
        """With signatures, into the target."""
        return self.run(medium / "bootstrap.sh", *self.paper, "--to", str(self.target), *options)


def refused(desk: Desk, said: tuple[int, str, str]) -> tuple[int, str]:
    """Exit code and message of a run that must have refused and left nothing."""
    code, output, told = said
    assert output == ""
    assert not desk.target.exists()
    assert [line for line in told.splitlines() if line.startswith("error: ")], told
    return code, told


def change_wheel(medium: Path) -> None:
    with (medium / TOOLKIT / PROGRAM).open("ab") as wheel:
        wheel.write(b"!")
