"""A journald of its own, so many records a second, and a sender: ``python journal_load.py …``

Run in a mount namespace of its own (``unshare --mount``), with an empty ``/run``: the machine's own journal
is not touched.  Prints one JSON object: how many records were logged, and the CPU seconds of journald and
of the sender with its journalctl.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

_CONF = """[Journal]
Storage=volatile
RateLimitIntervalSec=0
ReadKMsg=no
Audit=no
ForwardToSyslog=no
ForwardToWall=no
RuntimeMaxUse=1G
"""
_TEXT = "POST /v1/chat/completions 200 OK in 1184 ms, 812 tokens in, 644 tokens out, request " + "r" * 200


def main() -> None:
    rate, seconds, *sender = sys.argv[1:]
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    conf = Path("/run/journald.conf")
    conf.write_text(_CONF, encoding="ascii")
    subprocess.run(["mount", "--bind", str(conf), "/etc/systemd/journald.conf"], check=True)
    journald = subprocess.Popen(["/lib/systemd/systemd-journald"])
    place = "/run/systemd/journal/socket"
    while not Path(place).exists():
        time.sleep(0.05)
    out = subprocess.Popen(sender, stdout=subprocess.DEVNULL)
    count = memory = 0
    try:
        time.sleep(2.0)
        count = logged(place, int(rate), float(seconds))
        caught_up(Path(sender[sender.index("send") + 1]) / "status.json", count)
        found = re.search(r"VmHWM:\s+([0-9]+) kB", Path(f"/proc/{out.pid}/status").read_text("ascii"))
        memory = int(found[1]) << 10 if found else 0
    finally:
        out.send_signal(signal.SIGTERM)
        _, _, used = os.wait4(out.pid, 0)
        journald.terminate()
        _, _, kept = os.wait4(journald.pid, 0)
    cpu = {"sender": used.ru_utime + used.ru_stime, "journald": kept.ru_utime + kept.ru_stime}
    print(json.dumps({"count": count, "memory": memory, **cpu}))


def caught_up(status: Path, count: int) -> None:
    """Wait until the sender has taken all of it, and its last blocks have left."""
    end = time.monotonic() + 60
    while json.loads(status.read_bytes())["records"] < count and time.monotonic() < end:
        time.sleep(0.2)
    time.sleep(3.0)


def logged(place: str, rate: int, seconds: float) -> int:
    """Log so many a second, evenly; each says when it was logged."""
    count, began = 0, time.monotonic()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        with contextlib.suppress(OSError):
            log.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        while (passed := time.monotonic() - began) < seconds:
            while count < passed * rate:
                entry = f"MESSAGE={_TEXT} {count}\nPRIORITY=6\nAT={time.time_ns()}\nN={count}\n"
                log.sendto(entry.encode("ascii"), place)
                count += 1
            time.sleep(0.005)
    return count


if __name__ == "__main__":
    main()
