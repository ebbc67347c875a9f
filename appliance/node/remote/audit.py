"""Says what a node is, asked by one line of JSON on standard input: the node's half of ``appliance audit``.

Runs on the node's own Python (3.10 or later, standard library only), at low priority.  Reads; changes
nothing and leaves no file.

→ {"commands": {name: shell text}, "trees": [path], "apart": [path], "login_files": [name], "home": path,
   "bundle": digest|null, "recheck": bool, "send": bool}
← {"time": seconds, "uid": …, "said": {name: {"status", "text"}}, "host": {subject: {what: how}},
   "files": {path: how}, "container": text, "installed": …|null, "staged": …|null,
   "baseline": digest|null, "text": …|null}

``bundle`` null: the one that the node says is installed.  ``send``: the node's copy of its baseline is
wanted, as ``text``; whoever asks decides whether to believe it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from appliance.node.remote.copy_state import Copy, known
from appliance.node.remote.file_state import file_state
from appliance.node.remote.host_state import container, host_state, text_of

SECONDS = 120


def say(command: str) -> dict[str, Any]:
    """Exit status and output of a shell command that only reads; of one that fails, what it said of it."""
    try:
        done = subprocess.run(
            ["sh", "-c", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"status": -1, "text": f"no end within {SECONDS} s"}
    told = done.stderr if done.returncode else done.stdout
    return {"status": done.returncode, "text": told.decode("utf-8", "replace")}


def main() -> None:
    """One question, one answer."""
    request: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    os.nice(10)
    home = request["home"]
    try:
        installed = json.loads(text_of(f"{home}/installed.json") or "null")
    except ValueError:
        installed = None
    bundle = request["bundle"] or (installed or {}).get("digest")
    answer = {"time": time.time(), "uid": os.geteuid(), "installed": installed, "container": container()}
    with ThreadPoolExecutor(4) as pool:
        said = pool.map(say, request["commands"].values())  # at work while files are read
        answer["host"] = host_state()
        answer["files"] = file_state(request["trees"], request["apart"], request["login_files"])
        answer["staged"] = Copy(home, bundle).state(request["recheck"]) if bundle else None
        answer["said"] = dict(zip(request["commands"], said, strict=True))
    place = f"{home}/baseline.json"
    answer["baseline"] = known(place)
    answer["text"] = None
    if request["send"] and answer["baseline"]:
        with open(place, encoding="utf-8") as stream:
            answer["text"] = stream.read()
    print(json.dumps(answer))


main()
