"""A station and a node as programs: ``ssh`` runs the node's shell here, ``cryptsetup`` asks the test.

The node's ``cryptsetup`` and ``python3`` are programs with words, variables and standard input of their
own; they tell the test all of these, by a socket, and wait.  Meanwhile the test looks at every process and
file there is.  The drive is a simulated one, in the test's memory.
"""

from __future__ import annotations

import base64
import json
import shlex
import socketserver
import sys
import threading
from typing import TYPE_CHECKING, Any

from tests.unit.disk.drives import only
from tests.unit.disk.leaving.tracing import files, processes
from tests.unit.disk.test_enroll_command import Machine

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.disk.leaving.spellings import Secrets

RELAY = """#!{python} -IS
import base64, json, os, resource, socket, sys
asked = {{"argv": sys.argv, "environ": dict(os.environ), "core": resource.getrlimit(resource.RLIMIT_CORE),
         "stdin": base64.b64encode(sys.stdin.buffer.read()).decode()}}
line = socket.socket(socket.AF_UNIX)
line.connect({socket!r})
line.sendall(json.dumps(asked).encode())
line.shutdown(socket.SHUT_WR)
answer = json.loads(line.makefile("rb").read())
for path, data in answer["files"].items():
    with open(path, "xb") as file:
        file.write(base64.b64decode(data))
sys.stdout.buffer.write(base64.b64decode(answer["out"]))
sys.stderr.buffer.write(base64.b64decode(answer["err"]))
sys.exit(answer["code"])
"""
SSH = """#!/bin/sh
for last; do :; done
case " $* " in *" -O "*) exit 0 ;; esac
last=$(printf '%s' "$last" | sed 's|/sys/class/block|{node}/block|')
exec env -i PATH="{node}/bin:/usr/bin:/bin" HOME="{node}" sh -c "$last"
"""
SUDO = '#!/bin/sh\n[ "$1" = -n ] && shift\nexec "$@"\n'


class Node:
    """The node: what it was asked, and what was seen of secrets each time that it was."""

    def __init__(self, folder: Path, secrets: Secrets) -> None:
        self.folder = folder / "node"
        self.machine = Machine(None)
        self.secrets = secrets
        self.seen: list[str] = []
        self.cores: list[list[int]] = []
        self.talks = False
        self._searched = folder
        self._place = folder / "line"
        secrets.add("psid", self.machine.doer.bench.profile.psid.encode())
        for place in ("bin", "block/nvme0n1/device"):
            (self.folder / place).mkdir(parents=True)
        (self.folder / "block/nvme0n1/device/serial").write_text("SIM1\n")
        (self.folder / "block/nvme0n1/nsid").write_text("1\n")
        relay = RELAY.format(python=sys.executable, socket=str(self._place))
        for name, text in (("cryptsetup", relay), ("python3", relay), ("sudo", SUDO)):
            _program(self.folder / "bin" / name, text)
        (folder / "bin").mkdir()
        _program(folder / "bin/ssh", SSH.format(node=self.folder))

    @property
    def sockets(self) -> frozenset[str]:
        """Where what the node's programs say to the test is written: no place of a real run."""
        programs = [self.folder / "bin" / name for name in ("cryptsetup", "python3")]
        return frozenset(f"written to a socket of {path}" for path in programs)

    def serve(self) -> socketserver.ThreadingUnixStreamServer:
        """Begin to answer; shut it down at the end."""
        node = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                asked = json.loads(self.rfile.read())
                self.wfile.write(json.dumps(node.answer(asked)).encode())

        server = socketserver.ThreadingUnixStreamServer(str(self._place), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        return server

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        argv, given = asked["argv"], base64.b64decode(asked["stdin"])
        reply: dict[str, Any] = {"out": "", "err": "", "code": 0, "files": {}}
        if argv[0].endswith("/python3"):
            reply["out"] = _text(self.python(argv, given))
        else:
            self.cores.append(asked["core"])
            self._cryptsetup(argv, given, reply)
        self.seen += self.secrets.seen([*processes(), *files(self._searched)])
        return reply

    def python(self, _argv: list[str], _given: bytes) -> bytes:
        """Whatever is sent to it, here it is what reads drives."""
        return json.dumps(self.machine.doer.read()).encode()

    def _cryptsetup(self, argv: list[str], given: bytes, reply: dict[str, Any]) -> None:
        if argv[1] == "luksFormat":
            phrase, pin, _ = given.split(b"\n")
            self.secrets.add(f"passphrase {len(self.secrets.names())}", phrase)
            self.secrets.add(f"pin {len(self.secrets.names())}", pin)
        if self.talks:
            reply |= {"code": 1, "err": _text(b"I was given %s\n" % given.replace(b"\n", b" ")), "out": ""}
        elif argv[1] == "luksHeaderBackup":
            here = only(self.machine.doer.read())[0]
            reply["files"] = {
                argv[argv.index("--header-backup-file") + 1]: _text(self.machine.doer.header(here))
            }
        else:
            same = f"sh -c x sh /sys/class/block/nvme0n1 device/serial SIM1 nsid 1 -- {shlex.join(argv)}"
            self.machine.run(same, stdin=given, timeout=None)


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
