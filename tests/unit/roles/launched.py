"""A launcher of an engine behind a relay, started as systemd starts it, with a stand-in for the engine."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from pathlib import Path

FILES = Path(__file__).parents[3] / "roles/inference_server/files"

# As systemd starts a service that a socket belongs to: descriptor 3, and whose it is.
START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class Launched:
    """The launcher in front of a stand-in, with the socket that systemd would have opened.

    Args:
        folder: what is the test's own.
        launcher: module of the launcher.
        prepare: what is changed in it first, as Python.
        kind: what the stand-in does, TEST_ENGINE; what it was told it writes to TEST_TOLD.
    """

    def __init__(self, folder: Path, launcher: str, prepare: str, kind: str) -> None:
        self.program = folder / "run.py"
        self.program.write_text(
            f"import sys\nsys.path.insert(0, {str(FILES)!r})\nimport {launcher}\n{prepare}\n"
            f"sys.exit({launcher}.main(sys.argv[1:]))\n"
        )
        self.told, self.written = folder / "told.json", ""
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(str(folder / "notify"))
        self.systemd.settimeout(30)
        self.environment = {
            "NOTIFY_SOCKET": str(folder / "notify"),
            "TEST_ENGINE": kind,
            "TEST_TOLD": str(self.told),
        }

    def start(self, options: list[str], **more: str) -> None:
        """Start it with these options, and these variables besides."""
        command = [
            sys.executable,
            "-c",
            START,
            str(self.socket.fileno()),
            "-B",
            str(self.program),
            *options,
        ]
        self.process = subprocess.Popen(
            command,
            pass_fds=[self.socket.fileno()],
            env=self.environment | more,
            stderr=subprocess.PIPE,
            text=True,
        )

    def heard(self) -> str:
        """What systemd is told next."""
        return self.systemd.recv(4096).decode()

    def ask(self, path: str = "/") -> str:
        """What a client is answered."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def stop(self) -> tuple[int, str]:
        """Exit status and what was written, after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self) -> tuple[int, str]:
        """Exit status and what was written, once it ended."""
        if self.process.returncode is None:
            self.written = self.process.communicate(timeout=60)[1]
        return self.process.returncode, self.written

    def close(self) -> None:
        """End it, and it the stand-in, which leads a group of its own."""
        self.process.terminate()
        self.end()
        self.socket.close()
        self.systemd.close()
