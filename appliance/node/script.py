"""Running one of our scripts on a node: sent over standard input, as root, leaving no file behind."""

from __future__ import annotations

import pkgutil
import shlex
from typing import Final

PACKAGE: Final = "appliance.node.remote"

#: Exit status of the shell when the node has no python3; what a shell itself says of a missing program.
NO_PYTHON: Final = 127


def load_script(name: str, *modules: str, package: str = PACKAGE) -> bytes:
    """The text of ``remote/<name>.py``; with ``modules``, one that brings those of remote/ it imports.

    ``package``: where they lie, if not in remote/.  A module with a path, as in ``roles/…/state.py``, is a
    role's own, and is imported by its name alone.
    """
    script = _text(package, name)
    if not modules:
        return script
    texts = dict(_named(package, module) for module in modules)
    return (
        "import sys, types\n"
        f"for name, text in {texts!r}.items():\n"
        "    sys.modules[name] = types.ModuleType(name)\n"
        "    exec(compile(text, name, 'exec'), sys.modules[name].__dict__)\n"
        f"exec(compile({script!r}, {name!r}, 'exec'))\n"
    ).encode()


def _named(package: str, module: str) -> tuple[str, bytes]:
    """What a module is called where it runs, and its text."""
    if "/" not in module:
        return f"{package}.{module}", _text(package, module)
    from appliance.content import content_root

    path = content_root() / module
    return path.stem, path.read_bytes()


def _text(package: str, module: str) -> bytes:
    """A module as it is written: from a folder, or from the zip of a node's own audit."""
    text = pkgutil.get_data(package, f"{module}.py")
    if text is None:
        raise FileNotFoundError(f"{package}.{module}")
    return text


def start_command(script: bytes, name: str) -> str:
    """The shell command that starts a script whose text will be the first thing on standard input.

    What follows the text on standard input is the script's own.  Runs as root if that needs no
    password; ``sys.argv[1]`` is the SSH_CONNECTION the shell saw (sudo would drop it).
    """
    loader = f"import sys;exec(compile(sys.stdin.buffer.read({len(script)}),{name!r},'exec'))"
    python = f'python3 -I -B -c {shlex.quote(loader)} "$SSH_CONNECTION"'
    return (
        f"command -v python3 >/dev/null || exit {NO_PYTHON}; "
        'if [ "$(id -u)" -ne 0 ] && sudo -n true 2>/dev/null; '
        f"then exec sudo -n {python}; fi; exec {python}"
    )
