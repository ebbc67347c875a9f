"""The search for secrets finds each that is planted, wherever it is, however it is spelled."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.disk.secret import new_passphrase, new_pin
from tests.unit.disk.leaving.spellings import Secrets
from tests.unit.disk.leaving.tracing import files, processes, trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PIN, PHRASE = new_pin().reveal(), new_passphrase().reveal()
SPELLED: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda secret: secret,
    "without hyphens": lambda secret: secret.replace(b"-", b""),
    "in groups of four": lambda secret: b" ".join(
        secret.replace(b"-", b"")[at : at + 4] for at in range(0, 40, 4)
    ).strip(),
    "in small letters": bytes.lower,
    "half of it": lambda secret: secret.replace(b"-", b"")[:16],
    "its end": lambda secret: secret.replace(b"-", b"")[-16:],
    "JSON": lambda secret: json.dumps({"x": secret.decode()}).encode(),
    "Python": lambda secret: repr([secret]).encode(),
    "hexadecimal": lambda secret: secret.hex().encode(),
    "hexadecimal, of more": lambda secret: b"xy%sz".replace(b"%s", secret).hex().upper().encode(),
    "bytes": lambda secret: str(list(secret)).encode(),
    "base64": base64.b64encode,
    "base64, one byte on": lambda secret: base64.b64encode(b"x" + secret + b"\n"),
    "base64, two bytes on": lambda secret: base64.urlsafe_b64encode(b"xy" + secret + b"\nmore"),
    "UTF-16": lambda secret: secret.decode().encode("utf-16"),
}


@pytest.mark.parametrize("spelled", SPELLED.values(), ids=SPELLED)
def test_every_spelling_is_known(spelled: Callable[[bytes], bytes]) -> None:
    secrets = Secrets()
    secrets.add("pin", PIN)
    secrets.add("phrase", PHRASE)
    assert secrets.within(b"before " + spelled(PIN) + b" after") == {"pin"}
    assert secrets.within(b"before " + spelled(PHRASE) + b" after") == {"phrase"}
    assert secrets.within(b"before " + spelled(new_pin().reveal()) + b" after") == frozenset()


def test_what_is_planted_is_seen_where_it_is(tmp_path: Path) -> None:
    names = ("word", "variable", "file", "gone", "name", "output", "error", "pipe", "none")
    planted = {name: new_pin().reveal().decode() for name in names}
    secrets = Secrets()
    for name, secret in planted.items():
        secrets.add(name, secret.encode())
    (tmp_path / "secrets").write_text("".join(f"{name}={secret}\n" for name, secret in planted.items()))
    (tmp_path / "work").mkdir()
    script = """
    . ../secrets
    env true "$word"
    variable=$variable env true
    echo "$file" >file
    echo "$gone" >gone; rm gone
    : >"$name"
    echo "$output"
    echo "$error" | base64 >&2
    echo "$pipe" | { read -r x; }
    """
    log = tmp_path / "trace"
    done = trace(["/bin/sh", "-c", script], {"PATH": "/usr/bin:/bin"}, tmp_path / "work", log)
    assert done.code == 0, done.err
    seen = secrets.seen([*done.places(), *files(tmp_path / "work")])
    assert {line.rpartition(": ")[2] for line in seen} == set(names) - {"pipe", "none"}
    work = tmp_path / "work"
    assert f"written to {work}/file: file" in seen
    assert f"{work}/file: file" in seen
    assert f"written to {work}/gone: gone" in seen, "though it is not there any more"
    assert "standard output: output" in seen
    assert "standard error: error" in seen
    assert any(line.startswith("start of ") and line.endswith(": word") for line in seen)


def test_processes_are_seen_while_they_run() -> None:
    secrets = Secrets()
    secrets.add("word", PIN)
    secrets.add("variable", PHRASE)
    environment = {**os.environ, "SAID": PHRASE.decode()}
    words = ["sh", "-c", "echo ready; read -r x", PIN.decode()]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        seen = secrets.seen(processes())
        running.communicate(b"\n")
    assert f"/proc/{running.pid}/cmdline: word" in seen
    assert f"/proc/{running.pid}/environ: variable" in seen
    assert secrets.seen(processes()) == []
