"""The pytest plugin of the qualification: what tests may ask for, and where their findings go.

Findings leave as JSON lines on an inherited descriptor, so that nothing is read from pytest's prose:
``{"event": "collected", "names": […]}``, ``{"event": "item", …}`` per promise, ``{"event": "probe", …}``
once.  The probe starts with the session and runs beside the tests that read; what needs it comes last.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest

from appliance.definition.partition import instances
from appliance.node.host_data import load_host_data
from appliance.node.probe import as_root, load_probe
from appliance.node.probe_outbound import probe_outbound
from appliance.node.qualification.ask import Answers, ask_model
from appliance.node.qualification.autostart import LISTING, parse_listing, stopped_units
from appliance.node.qualification.clock import Reading, read_clock
from appliance.node.qualification.greeting import Greeting, greet
from appliance.node.qualification.sockets import LISTENING, parse_sockets
from appliance.node.qualification.subject import Subject, load_subject
from appliance.node.qualification.tries import Tries, try_node

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from concurrent.futures import Future

    from testinfra.host import Host  # type: ignore[import-untyped]  # testinfra has no types

    from appliance.node.probe import OutboundProbe
    from appliance.node.qualification.finding import Finding
    from appliance.node.qualification.sockets import Socket

Test = TypeVar("Test", bound="Callable[..., None]")

_SUBJECT: Final[pytest.StashKey[Subject]] = pytest.StashKey()
_LISTENING: Final[pytest.StashKey[Future[list[Socket]]]] = pytest.StashKey()
_PROBE: Final[pytest.StashKey[Future[OutboundProbe]]] = pytest.StashKey()
_ANSWERS: Final[pytest.StashKey[Future[dict[int, Answers]]]] = pytest.StashKey()
_TRIES: Final[pytest.StashKey[Future[Tries]]] = pytest.StashKey()
_GREETING: Final[pytest.StashKey[Future[Greeting | None]]] = pytest.StashKey()
_CLOCK: Final[pytest.StashKey[Reading]] = pytest.StashKey()
_WRITER: Final[pytest.StashKey[Writer]] = pytest.StashKey()
_FINDING: Final[pytest.StashKey[Finding]] = pytest.StashKey()


def promise(name: str, title: str, controls: Sequence[str] = ()) -> Callable[[Test], Test]:
    """Mark a test as the proof of a promise: its stable name, the promise in words, controls it serves."""
    return pytest.mark.promise(name=name, title=title, controls=list(controls))


class Writer:
    """JSON lines to the program that started us."""

    def __init__(self, descriptor: int) -> None:
        self._out = os.fdopen(descriptor, "w", encoding="utf-8")

    def write(self, event: str, **values: object) -> None:
        self._out.write(json.dumps({"event": event, **values}) + "\n")
        self._out.flush()


def pytest_addoption(parser: pytest.Parser) -> None:
    """What the starting program passes."""
    group = parser.getgroup("appliance")
    group.addoption("--subject", type=Path, required=True, help="JSON description of the node")
    group.addoption("--before", type=Path, help="the probe from before isolation, if there is one")
    group.addoption("--events", type=int, required=True, help="descriptor that events are written to")


def pytest_configure(config: pytest.Config) -> None:
    """Read the subject and start what takes time."""
    config.addinivalue_line("markers", "promise(name, title, controls): the promise a test proves")
    subject = load_subject(config.getoption("--subject"))
    pool = ThreadPoolExecutor(5)
    config.stash[_SUBJECT] = subject
    config.stash[_WRITER] = Writer(config.getoption("--events"))
    config.stash[_LISTENING] = pool.submit(_listening, subject)
    config.stash[_PROBE] = pool.submit(_probe, subject, config.stash[_LISTENING])
    config.stash[_GREETING] = pool.submit(_greeting, subject)
    config.stash[_TRIES] = pool.submit(_tries, subject, config.stash[_PROBE])
    config.stash[_ANSWERS] = pool.submit(_ask, subject)


def _ask(subject: Subject) -> dict[int, Answers]:
    """What every server of the node answers, by port."""
    ports, bundle = [each.port for each in instances(subject.inventory, subject.node)], subject.bundle
    return {port: ask_model(subject, port, bundle.model_name, bundle.task) for port in ports}


def _listening(subject: Subject) -> list[Socket]:
    """Taken before the probe opens servers of its own on the node."""
    done = subject.run(as_root(LISTENING))
    if done.returncode != 0:
        raise RuntimeError(f"`{LISTENING}` ended with {done.returncode}: {done.stderr.decode().strip()}")
    return parse_sockets(done.stdout.decode())


def _probe(subject: Subject, listening: Future[list[Socket]]) -> OutboundProbe:
    ports = {each.port for each in listening.result() if each.protocol == "tcp" and not each.loopback}
    unit = instances(subject.inventory, subject.node)[0].unit  # of all of them, made from one template
    return probe_outbound(subject, subject.inventory, subject.node, unit=unit, ports=sorted(ports))


def _greeting(subject: Subject) -> Greeting | None:
    """None: the node tests itself, and nobody is outside."""
    version = subject.node.address.version
    stations = [each for each in subject.inventory.management.operator if each.version == version]
    if subject.local or not stations:
        return None
    return greet(subject.node.address, subject.node.port, stations[0], subject.user)


def _tries(subject: Subject, probe: Future[OutboundProbe]) -> Tries:
    """After the probe, whose attempts have little time each: on a slow node neither hurries the other."""
    wait([probe])
    node = parse_listing(subject.run(as_root(LISTING)).stdout.decode())
    units = stopped_units(node, load_host_data(), subject.inventory.host.time.source)
    return try_node(subject, units)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Announce the promises; those that wait for the probe or the model come last.

    A node that exports nothing promises nothing of it, one without encrypted drives nothing of
    these, and one whose GPUs the inventory does not divide nothing of slices.
    """
    if config.stash[_SUBJECT].node.export is None:
        items[:] = [item for item in items if "line" not in getattr(item, "fixturenames", ())]
    if not config.stash[_SUBJECT].node.disks:
        items[:] = [item for item in items if "volumes" not in getattr(item, "fixturenames", ())]
    if config.stash[_SUBJECT].node.partition is None:
        items[:] = [item for item in items if "partition" not in getattr(item, "fixturenames", ())]
    waiting = {"probe", "answers", "tries"}
    items.sort(key=lambda item: bool(waiting & set(getattr(item, "fixturenames", ()))))
    config.stash[_WRITER].write("collected", names=[_promise(item)["name"] for item in items])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write the item's finding once it is known; a test that broke down is a broken promise."""
    report = yield
    if call.when != "call" and not report.failed:
        return report
    values: dict[str, Any] = _promise(item) | {"seconds": round(call.duration, 3)}
    finding = item.stash.get(_FINDING, None)
    if finding is None:
        broke = str(call.excinfo.value) if call.excinfo else "the test judged nothing"
        values |= {"status": "failed", "found": f"the check itself broke: {broke}", "wanted": "an answer"}
    else:
        status = "not-run" if finding.reason else "passed" if finding.kept else "failed"
        values |= {
            "status": status,
            "found": finding.found,
            "wanted": finding.wanted,
            "reason": finding.reason,
        }
    item.config.stash[_WRITER].write("item", **values)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over everything the probe tried."""
    probe = session.config.stash[_PROBE]
    if probe.done() and probe.exception() is None:
        session.config.stash[_WRITER].write("probe", probe=probe.result().as_dict())
    if reading := session.config.stash.get(_CLOCK, None):
        session.config.stash[_WRITER].write("clock", reading=asdict(reading))


def _promise(item: pytest.Item) -> dict[str, Any]:
    marker = item.get_closest_marker("promise")
    if marker is None:
        raise pytest.UsageError(f"{item.nodeid} proves no promise")
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    words = {name: value for name, value in parameters.items() if isinstance(value, str)}
    texts = {key: marker.kwargs[key].format(**words) for key in ("name", "title")}
    return texts | {"controls": marker.kwargs["controls"]}


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Callable[[Finding], None]:
    """Takes the finding of a test's promise; the test fails or is skipped accordingly."""

    def take(finding: Finding) -> None:
        request.node.stash[_FINDING] = finding
        if finding.reason:
            pytest.skip(finding.reason)
        if not finding.kept:
            pytest.fail(f"found: {finding.found}\nwanted: {finding.wanted}", pytrace=False)

    return take


@pytest.fixture
def read(host: Host) -> Callable[[str], str]:
    """Runs a shell command that only reads, as root, and returns its output; RuntimeError if it fails."""

    def run(command: str) -> str:
        done = host.run("LC_ALL=C.UTF-8 sh -c %s", command)
        if done.rc != 0:
            raise RuntimeError(
                f"`{command}` ended with {done.rc}: {done.stderr.strip() or done.stdout.strip()}"
            )
        return str(done.stdout)

    return run


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    """The node, and what it should be."""
    return request.config.stash[_SUBJECT]


@pytest.fixture(scope="session")
def listening(request: pytest.FixtureRequest) -> list[Socket]:
    """The sockets that listened on the node before anything was tried."""
    return request.config.stash[_LISTENING].result(timeout=60)


@pytest.fixture(scope="session")
def probe(request: pytest.FixtureRequest) -> OutboundProbe:
    """Everything tried, once it is over; raises what kept it from being tried."""
    return request.config.stash[_PROBE].result(timeout=90)


@pytest.fixture(scope="session")
def before(request: pytest.FixtureRequest) -> OutboundProbe | None:
    """The same attempts from before the node was isolated, if there is a record of them."""
    path = request.config.getoption("--before")
    return load_probe(path) if path else None


@pytest.fixture(scope="session")
def tries(request: pytest.FixtureRequest) -> Tries:
    """What came of what must fail, once it is over."""
    return request.config.stash[_TRIES].result(timeout=200)


@pytest.fixture(scope="session")
def greeting(request: pytest.FixtureRequest) -> Greeting | None:
    """What the SSH server says to somebody without a key."""
    return request.config.stash[_GREETING].result(timeout=60)


@pytest.fixture(scope="session")
def reading(request: pytest.FixtureRequest, subject: Subject) -> Reading:
    """The node's clock; kept for the next report."""
    request.config.stash[_CLOCK] = read_clock(subject)
    return request.config.stash[_CLOCK]


@pytest.fixture(scope="session")
def answers(request: pytest.FixtureRequest) -> dict[int, Answers]:
    """What the model said, once it has."""
    return request.config.stash[_ANSWERS].result(timeout=180)
