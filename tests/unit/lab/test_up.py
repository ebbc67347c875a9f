"""Claiming a lab's folder: interrupted at the worst moment, nothing is left."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from appliance.lab import up
from appliance.lab.places import Places, claim_folder

if TYPE_CHECKING:
    from pathlib import Path


def test_ctrl_c_while_the_folder_is_made_waits_until_it_can_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted_claim(places: Places, name: str) -> Path:
        folder = claim_folder(places, name)
        os.kill(os.getpid(), signal.SIGINT)
        return folder

    monkeypatch.setattr(up, "claim_folder", interrupted_claim)
    monkeypatch.setattr("appliance.lab.down.require_root", lambda: None)
    monkeypatch.setattr("appliance.lab.down.require_tools", lambda _: None)
    places = Places(tmp_path / "labs", tmp_path / "cache")
    done = threading.Event()
    # As a progress display has: the kernel may give the signal to any thread.
    threads = [threading.Thread(target=done.wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        with pytest.raises(KeyboardInterrupt), up._claimed(places, "ward", up.Wanted(), tmp_path):
            pass
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
