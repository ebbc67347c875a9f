"""What a node does to a drive by its own protocol, beside cryptsetup: acts of ``appliance.tcg.program``.

The program is sent to the node, and a request to the program by standard input, with the secrets in it.  It
looks itself whether the drive is the one that was read.  Each act that takes a PIN tries it once.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from appliance.disk.cryptsetup import Cryptsetup
from appliance.disk.secret import Secret
from appliance.errors import ApplyFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appliance.disk.cryptsetup import Runner
    from appliance.disk.state import Drive

    #: Runs the program with one line of JSON; the one it answers with.
    Ask = Callable[[bytes], Mapping[str, Any]]

#: What to do about a status; TCG Storage Architecture Core Specification 2.01, section 5.1.5.
_HINTS: Final = {
    "NOT_AUTHORIZED": "stop: that was one try of a PIN, and drives count; find out which keys it has",
    "AUTHORITY_LOCKED_OUT": "too many wrong PINs were tried: power the drive off and on, then begin again",
    "SP_BUSY": "somebody else has a session with it; power the drive off and on, then begin again",
    "NO_SESSIONS_AVAILABLE": "somebody else has a session with it; power it off and on, then begin again",
}


class Tcg:
    """Has acts carried out on one machine.

    Args:
        ask: runs the program there.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def act(self, drive: Drive, act: str, **wanted: Secret | str | int | list[int]) -> dict[str, Any]:
        """Have one act carried out; what it tells.

        Raises:
            ApplyFailed: the drive refused, did not answer, or another one is there now.
        """
        comid = None if drive.discovery is None else drive.discovery.first_comid
        told = {
            name: value.reveal().decode("ascii") if isinstance(value, Secret) else value
            for name, value in wanted.items()
        }
        request = {
            "act": act,
            "name": drive.name,
            "serial": drive.serial,
            "nsid": drive.namespace,
            "comid": comid,
            **told,
        }
        answer = self._ask(json.dumps(request).encode("ascii") + b"\n")
        if isinstance(done := answer.get("done"), dict):
            return done
        if isinstance(refused := answer.get("refused"), dict):
            status = str(refused.get("status"))
            raise ApplyFailed(
                f"{drive.path} refused: {act}",
                found=f"{refused.get('method')}: {status}",
                hint=_HINTS.get(status, "appliance disk status says how the drive stands"),
            )
        raise ApplyFailed(
            f"{drive.path} could not be asked: {act}",
            found=str(answer.get("error", "nothing that can be read")),
            hint="run it again: it looks what was done, and goes on",
        )


class Keeper(Cryptsetup):
    """Does what cryptsetup does, and acts.

    Args:
        run: runs a shell command line on the machine.
        read: reads its drives.
        ask: runs the program there.
    """

    def __init__(self, run: Runner, read: Callable[[], dict[str, Any]], ask: Ask) -> None:
        super().__init__(run, read)
        self._tcg = Tcg(ask)

    def act(self, drive: Drive, act: str, **wanted: Secret | str | int | list[int]) -> dict[str, Any]:
        """Have one act carried out; what it tells.

        Raises:
            ApplyFailed: as ``Tcg.act``.
        """
        return self._tcg.act(drive, act, **wanted)
