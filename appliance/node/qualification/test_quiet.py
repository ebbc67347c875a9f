"""Nothing on the node phones home, time comes from the site, and the host keeps to itself."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from appliance.node.host_data import load_host_data
from appliance.node.qualification import autostart, clock, kernel, server
from appliance.node.qualification import greeting as greetings
from appliance.node.qualification import tries as tried
from appliance.node.qualification.finding import Finding, not_run
from appliance.node.qualification.plugin import promise

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.node.host_data import Entry
    from appliance.node.qualification.subject import Subject

    Judge = Callable[[Finding], None]
    Read = Callable[[str], str]

DATA: Final = load_host_data()


def served(*entries: tuple[Entry, ...]) -> list[str]:
    """The controls that these settings serve, each once."""
    return sorted({entry.control for group in entries for entry in group})


@pytest.fixture(scope="session")
def node(subject: Subject) -> autostart.Autostart:
    """What starts by itself, and what is at work."""
    from appliance.node.probe import as_root

    return autostart.parse_listing(subject.run(as_root(autostart.LISTING)).stdout.decode())


@pytest.fixture
def chrony(read: Read) -> str:
    """Chrony's own view, where there is one."""
    return read(clock.CHRONY)


@promise(
    "quiet.stopped", "What phones home does not start", served(DATA.stopped, DATA.clocks, DATA.scripts_off)
)
def test_stopped(subject: Subject, node: autostart.Autostart, tries: tried.Tries, judge: Judge) -> None:
    judge(autostart.judge_stopped(node, tries, DATA, subject.inventory.host.time.source))


@promise("quiet.judged", "Everything that starts by itself has been judged", ["CM-7"])
def test_judged(subject: Subject, node: autostart.Autostart, judge: Judge) -> None:
    judge(autostart.judge_known(node, DATA, subject.inventory.host))


@promise("quiet.clock", "The clock is kept as the inventory says, and its distance is known", ["SC-45"])
def test_clock(
    subject: Subject, node: autostart.Autostart, chrony: str, reading: clock.Reading, judge: Judge
) -> None:
    site = subject.inventory.host.time
    judge(clock.judge_clock(node, site, DATA, chrony=chrony, reading=reading, earlier=subject.clock))


@promise("quiet.kernel", "The running kernel has every setting", served(DATA.kernel))
def test_kernel(read: Read, tries: tried.Tries, judge: Judge) -> None:
    judge(kernel.judge_settings(read(kernel.settings(DATA)), DATA, tries.container))


@promise("quiet.memory", "No process reads another one's memory", ["SC-39"])
def test_memory(tries: tried.Tries, judge: Judge) -> None:
    judge(tried.judge_memory(tries))


@promise("quiet.cores", "A process that crashes leaves no memory behind", ["SI-11"])
def test_cores(tries: tried.Tries, judge: Judge) -> None:
    judge(tried.judge_cores(tries))


@promise("quiet.temporary", "Nothing in /tmp can be run", ["CM-7"])
def test_temporary(tries: tried.Tries, judge: Judge) -> None:
    judge(tried.judge_temporary(tries))


@promise("quiet.modules", "No unwanted module is in the kernel or can get there", served(DATA.modules_off))
def test_modules(subject: Subject, read: Read, tries: tried.Tries, judge: Judge) -> None:
    judge(kernel.judge_modules(read(kernel.MODULES), DATA, subject.inventory.host, tries.container))


@promise("quiet.module-lock", "No module at all can be loaded once the node is up", ["CM-7"])
def test_module_lock(subject: Subject, read: Read, tries: tried.Tries, judge: Judge) -> None:
    judge(kernel.judge_lock(read(kernel.LOCK), subject.inventory.host, tries.container))


@promise("quiet.audit", "What matters is written down", served(DATA.audit))
def test_audit(read: Read, tries: tried.Tries, judge: Judge) -> None:
    judge(kernel.judge_audit(read(kernel.AUDIT), DATA, tries.container))


@promise("quiet.ssh-settings", "The SSH server holds to every setting", served(DATA.ssh))
def test_ssh_settings(subject: Subject, read: Read, judge: Judge) -> None:
    judge(server.judge_settings(read(server.EFFECTIVE), DATA, subject.inventory, subject.node))


@promise("quiet.ssh-keys-only", "The SSH server takes no password", ["IA-2"])
def test_ssh_keys_only(greeting: greetings.Greeting | None, judge: Judge) -> None:
    judge(greetings.judge_passwords(greeting))


@promise("quiet.ssh-no-way-back", "No tunnel leads out through the operator's station", ["SC-7"])
def test_ssh_no_way_back(subject: Subject, judge: Judge) -> None:
    if subject.local or not subject.fresh:
        judge(
            not_run(
                "installed from the node itself: there is no station to go out by", wanted=server.WAY_BACK
            )
        )
        return
    station = next(iter(subject.fresh))
    statuses = []
    for options in ((), server.TUNNEL):
        try:
            statuses.append(subject.run_fresh(station, "true", *options, timeout=15).returncode)
        except subprocess.TimeoutExpired:
            statuses.append(-1)
    judge(server.judge_way_back(*statuses))


@promise("quiet.banner", "Whoever comes reads whose machine this is", ["AC-8"])
def test_banner(subject: Subject, greeting: greetings.Greeting | None, judge: Judge) -> None:
    judge(greetings.judge_banner(greeting, subject.inventory.host.banner))
