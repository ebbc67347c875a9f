"""A node whose drive gets new keys and is retired: what its ``python3`` and ``cryptsetup`` are asked."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from appliance.disk.luks import PassphraseToken
from appliance.disk.secret import Secret
from tests.unit.disk.bench_life import LifeDoer
from tests.unit.disk.drives import only
from tests.unit.disk.leaving.node import Node

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.disk.leaving.spellings import Secrets

#: How much of standard input is the program that is sent; the rest is for it.
_PROGRAM = re.compile(r"stdin\.buffer\.read\((\d+)\)")


class LifeNode(Node):
    """A node, whose drive keeps keyslots and answers to its own protocol."""

    def __init__(self, folder: Path, secrets: Secrets) -> None:
        super().__init__(folder, secrets)
        self.doer = LifeDoer()
        self.machine.doer = self.doer
        secrets.add("psid of the drive", self.doer.bench.profile.psid.encode())
        self.asked: list[str] = []

    def python(self, argv: list[str], given: bytes) -> bytes:
        """What reads drives, or what does something to one."""
        sent = _PROGRAM.search(" ".join(argv))
        assert sent is not None
        request = given[int(sent[1]) :]
        if not request:
            return super().python(argv, given)
        values = json.loads(request)
        self.asked.append(values["act"])
        for name in ("pin", "new"):
            if name in values:
                self._learn(values[name].encode())
        return json.dumps(self.doer.answer(request)).encode()

    def _cryptsetup(self, argv: list[str], given: bytes, reply: dict[str, Any]) -> None:
        here = only(self.doer.read())[0]
        if argv[1] == "token":
            values = json.loads(given)
            token = PassphraseToken(argv[6], values["keys"], values["slot"], values["before"])
            self.doer.name_passphrase(here, token)
        elif argv[1] == "luksAddKey":
            old, new, _ = given.split(b"\n")
            self._learn(new)
            self.doer.add_passphrase(here, argv[-2], Secret(old), Secret(new))
        elif argv[1] == "luksRemoveKey":
            self.doer.remove_passphrase(here, Secret(given))
        elif argv[1] == "luksErase":
            self.doer.reset(here, Secret(given))
        else:
            super()._cryptsetup(argv, given, reply)

    def _learn(self, secret: bytes) -> None:
        self.secrets.add(f"secret {len(self.secrets.names())}", secret)
