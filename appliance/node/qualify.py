"""Qualify a node: prove on the live machine that it keeps every promise, and write the report.

The proof is pytest with testinfra (``appliance.node.qualification``), run as a subprocess that reads no
configuration of the user's.  It connects the way the installer does and changes nothing on the node, so
it may be repeated at any time (`audit`).  Its findings come as events on a descriptor; a promise without
a finding counts as broken.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from appliance import __version__
from appliance.definition.engines import served_path
from appliance.errors import NodeUnreachable
from appliance.node import qualification
from appliance.node.host_data import load_host_data
from appliance.node.probe import OutboundProbe, as_root, now, store_probe
from appliance.node.qualification import bmc
from appliance.node.qualification.clock import Reading, load_readings, store_readings
from appliance.node.qualification.rules import LISTING
from appliance.node.qualification.subject import STAGED, Bundle, describe
from appliance.node.report import Item, Provenance, QualificationReport
from appliance.node.report_junit import render_junit
from appliance.node.report_text import render_text
from appliance.node.serving_checks import served_by

if TYPE_CHECKING:
    from appliance.bundle.manifest import Manifest
    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.node.connection import Connection
    from appliance.progress import Progress

#: After this many seconds the tests are stopped; a large model may need two minutes for its first answer.
LONGEST: Final = 300

#: What was read from the node's clock, beside its records, for the drift.
CLOCK: Final = "clock.json"

#: pytest's exit statuses that mean "the tests ran": all kept, or some broken.
_RAN: Final = {0, 1}


@dataclass
class _Events:
    """What the tests have told so far."""

    collected: list[str] = field(default_factory=list)
    items: dict[str, Item] = field(default_factory=dict)
    probe: OutboundProbe | None = None
    clock: Reading | None = None

    def take(self, event: dict[str, Any], progress: Progress) -> None:
        kind = event.pop("event")
        if kind == "collected":
            self.collected = event["names"]
            progress.begin("qualify", len(self.collected))
        elif kind == "item":
            self.items[event["name"]] = Item(**event | {"controls": tuple(event.get("controls", ()))})
            progress.item(event["name"])
        elif kind == "probe":
            self.probe = OutboundProbe.from_dict(event["probe"])
        elif kind == "clock":
            self.clock = Reading(**event["reading"])


def qualify(  # noqa: PLR0917 - a stage gets what every stage gets
    inventory: Inventory,
    node: NodeEntry,
    manifest: Manifest,
    connection: Connection,
    record_dir: Path,
    progress: Progress,
    *,
    digest: str,
    before: OutboundProbe | None = None,
    provenance: Provenance | None = None,
) -> QualificationReport:
    """Test one node and write its report into ``record_dir``/report; takes some four seconds.

    Args:
        inventory: the site.
        node: the node to test.
        manifest: the installed bundle's.
        connection: how the node is reached.
        record_dir: the node's records; ``report/report.txt``, ``.json``, ``.xml``, the live packet
            filter, the probe and pytest's log are written below it.
        progress: told each promise as it is judged.
        digest: the bundle's identity (SHA-256 of trust/SHA256SUMS).
        before: the probe from before the node was isolated, for the comparison.
        provenance: who vouches for the bundle, for the report.

    Returns:
        The report; ``report.failed`` holds the broken promises.

    Raises:
        NodeUnreachable: there is no connection; nothing was tested.
        OSError: the report cannot be written.
    """
    folder = record_dir / "report"
    folder.mkdir(parents=True, exist_ok=True)
    _reach(node, connection)
    started, clock = now(), time.monotonic()
    readings = load_readings(record_dir / CLOCK)
    bundle = Bundle(digest, _model_path(manifest, digest), manifest.inference.name, manifest.inference.task)
    with tempfile.TemporaryDirectory(prefix="appliance-qualify-") as private:
        subject = Path(private) / "subject.json"
        subject.write_text(describe(inventory, node, bundle, connection, readings), encoding="utf-8")
        earlier = Path(private) / "before.json"
        if before:
            store_probe(before, earlier)
        command = _command(connection.testinfra, subject, earlier if before else None)
        events, status = _run(command, Path(private), folder / "pytest.log", progress)
    if events.clock:
        store_readings([*readings, events.clock], record_dir / CLOCK)
    report = QualificationReport(
        node=node.name,
        site=inventory.site,
        product=manifest.product,
        version=manifest.version,
        sequence=manifest.sequence,
        digest=digest,
        toolkit=f"appliance {__version__}",
        started=started,
        finished=now(),
        seconds=round(time.monotonic() - clock, 3),
        items=(*events.items.values(), *_missing(events, status, folder / "pytest.log")),
        before=before,
        after=events.probe,
        provenance=provenance,
        ruleset=_keep_ruleset(connection, folder / "packet-filter.txt"),
        catalogue=load_host_data().catalogue,
        notes=_notes(node, connection),
    )
    write_report(report, folder)
    return report


def _reach(node: NodeEntry, connection: Connection) -> None:
    """Connect once before all the rest: one clear error instead of one per promise."""
    try:
        done = connection.run("true", timeout=30)
    except subprocess.TimeoutExpired as error:
        raise NodeUnreachable(f"{node.name} does not answer", wanted="an answer within 30 s") from error
    if done.returncode != 0:
        raise NodeUnreachable(
            f"{node.name} cannot be reached to be qualified",
            found=done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}",
            wanted=f"a login at {node.address} port {node.port}",
        )


def write_report(report: QualificationReport, folder: Path) -> None:
    """``report.txt`` for people, ``report.json`` with everything, ``report.xml`` as JUnit."""
    (folder / "report.txt").write_text(render_text(report), encoding="utf-8")
    values = json.dumps(report.as_dict(), indent=2, sort_keys=True)
    (folder / "report.json").write_text(values + "\n", encoding="utf-8")
    (folder / "report.xml").write_text(render_junit(report), encoding="utf-8")


def _model_path(manifest: Manifest, digest: str) -> str:
    """What the engine was given on the node: the signed model, or the folder that it lies in."""
    served = manifest.inference
    if f"payload/{served.model}/{served.file}" not in {
        file.path for file in manifest.components[served.model].files
    }:
        raise ValueError(f"{served.file} is not in the component {served.model}")
    return served_path(served_by(manifest), f"{STAGED}/{digest}/payload/{served.model}", served.file)


def _command(host: str, subject: Path, before: Path | None) -> list[str]:
    """How to run our tests alone: no configuration, plug-in or cache of anybody else takes part."""
    tests = Path(qualification.__file__).parent
    return [
        *(
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-c",
            os.devnull,
            f"--rootdir={tests}",
            f"--confcutdir={tests}",
        ),
        *("-p", "testinfra.plugin", "-p", "appliance.node.qualification.plugin"),
        *("-p", "no:cacheprovider", "--import-mode=importlib", "--assert=plain", "--tb=short", "-ra"),
        *("--strict-markers", f"--hosts={host}", f"--subject={subject}"),
        *([f"--before={before}"] if before else []),
        *(str(test) for test in sorted(tests.glob("test_*.py"))),
    ]


def _run(command: list[str], folder: Path, log: Path, progress: Progress) -> tuple[_Events, int]:
    """Run the tests and take in their events; returns those and pytest's exit status."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))
    }
    environment |= {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
    }
    events = _Events()
    reader, writer = os.pipe()
    with log.open("wb") as output, os.fdopen(reader, encoding="utf-8") as pipe:
        tests = subprocess.Popen(
            [*command, f"--events={writer}"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(writer,),
        )
        os.close(writer)
        alarm = threading.Timer(LONGEST, tests.kill)
        alarm.start()
        try:
            _take_all(pipe, events, progress)
            status = tests.wait()
        finally:
            alarm.cancel()
            if tests.poll() is None:
                tests.kill()
                tests.wait()
            progress.end()
    return events, status


def _take_all(pipe: IO[str], events: _Events, progress: Progress) -> None:
    for line in pipe:
        try:
            event = json.loads(line)
        except ValueError:  # the tests were stopped in the middle of a line
            return
        events.take(event, progress)


def _missing(events: _Events, status: int, log: Path) -> list[Item]:
    """What was not judged is broken: promises without a finding, or tests that did not run to their end."""
    missing = [name for name in events.collected if name not in events.items]
    if events.collected and not missing and status in _RAN:
        return []
    found = f"pytest ended with {status}"
    found += f"; not judged: {', '.join(missing)}" if missing else ""
    found += "" if events.collected else "; no promise was found to test"
    found += f"; the end of {log}:\n{_tail(log)}"
    return [
        Item(
            name="qualification.complete",
            title="Every promise was judged",
            status="failed",
            found=found,
            wanted="a finding for every promise",
        )
    ]


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-12:])


def _keep_ruleset(connection: Connection, path: Path) -> str:
    """Keep the live packet filter beside the report; returns its SHA-256, "" if it cannot be read."""
    import hashlib

    try:
        done = connection.run(as_root(LISTING), timeout=20)
    except subprocess.TimeoutExpired:
        return ""
    if done.returncode != 0:
        return ""
    path.write_bytes(done.stdout)
    return hashlib.sha256(done.stdout).hexdigest()


def _notes(node: NodeEntry, connection: Connection) -> tuple[str, ...]:
    """What the reader has to know beside the promises."""
    try:
        done = connection.run(as_root(bmc.WAYS), timeout=20)
        ways = done.stdout.decode(errors="replace") if done.returncode == 0 else None
    except subprocess.TimeoutExpired:
        ways = None
    if node.connection == "local":
        itself = "the node tested itself (connection: local): nobody tried to get in or watched what left"
        return (itself, bmc.note(ways))
    return (bmc.note(ways),)
