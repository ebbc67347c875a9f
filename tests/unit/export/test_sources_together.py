"""The real program with all of its sources, killed in between: each record is there once."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

from appliance.export.incoming import Incoming
from appliance.export.places import found_sender, read_senders, sender_file
from appliance.export.receiver import Receiver
from appliance.export.sockets import receiving_socket
from tests.unit.export.journals import Journal
from tests.unit.export.test_loops import environment, program, until
from tests.unit.export.test_receiver import lines_of, written

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE = 60


def test_a_killed_sender_takes_each_record_of_journal_audit_log_and_folder_once(tmp_path: Path) -> None:
    sender, audit, checks = tmp_path / "sender", tmp_path / "audit.log", tmp_path / "checks"
    found_sender(sender, "gpu-01")
    checks.mkdir()
    (tmp_path / "receiver").mkdir()
    journal = Journal(tmp_path / "journal")
    receiver = Receiver(tmp_path / "receiver", read_senders([sender_file(sender, "gpu-01")]), lines_of)
    with receiving_socket(("127.0.0.1", 0)) as there:
        command = program(
            *("send", sender, "--to", f"127.0.0.1:{there.getsockname()[1]}"),
            *("--journal-folder", journal.folder, "--audit", audit, "--folder", f"checks={checks}"),
        )

        def whole(records: int) -> bool:
            receiver.take(Incoming(there).take(10_000))
            (node,) = receiver.status()["nodes"]
            return bool(node["records"] >= records and not node["gaps"])

        for start in range(3):
            journal.log(*(b"entry %d" % (start * 500 + number) for number in range(500)))
            with audit.open("ab") as file:
                file.write(b"type=A msg=audit(1.000:%d): a=1\n" % start)
            (checks / f".{start}").write_text(f'{{"check": {start}}}')
            (checks / f".{start}").rename(checks / f"{start}.json")
            with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL) as running:
                until(lambda: whole(502 * (start + 1)))  # noqa: B023 - called at once
                running.send_signal(signal.SIGKILL)
                running.wait(_PATIENCE)
            if start == 1:
                audit.rename(tmp_path / "audit.log.1")
    receiver.feed()
    receiver.close()
    records = [each["record"] for each in written(tmp_path / "receiver") if "record" in each]
    found = Counter(json.dumps(_name(each)) for each in records)
    expected = [f"entry {number}" for number in range(1500)] + [
        [name, str(n)] for n in range(3) for name in "ac"
    ]
    assert found == Counter(map(json.dumps, expected))
    assert list(checks.iterdir()) == []


def _name(record: object) -> object:
    """What tells a record from all others."""
    assert isinstance(record, dict)
    if "MESSAGE" in record:
        return record["MESSAGE"]
    fields = record["fields"]
    return ["a", fields["serial"]] if record["stream"] == "audit-log" else ["c", str(fields["check"])]
