"""Judges what inventory and roles declare, by the qualification's own judgements.  Pure.

Nothing is tried here, only read: trying is the qualification's.  A broken promise whose cause is already
told as a drift is told with it, as what it means; any other is a drift of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from appliance.definition.partition import instances
from appliance.node.audit.drift import Drift, NotCompared
from appliance.node.qualification import (
    autostart,
    clock,
    daily,
    flows,
    gpus,
    installed,
    kernel,
    links,
    routes,
    rules,
    server,
    service,
    sockets,
    storage,
)
from appliance.node.qualification.clock import CLOCK_SECONDS
from appliance.node.qualification.finding import Finding
from appliance.node.qualification.tries import Tries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.definition.partition import Instance
    from appliance.node.audit.asking import Facts
    from appliance.node.host_data import HostData

#: Promise to the drifts that tell its cause, as ``subject what``.
CAUSES: Final[dict[str, tuple[str, ...]]] = {
    "firewall.policies": ("rules *",),
    "firewall.out": ("rules *",),
    "firewall.in": ("rules *",),
    "firewall.through": ("rules *",),
    "firewall.nothing-beside": ("rules *",),
    "firewall.before-network": ("files /etc/systemd/system/*", "files /usr/lib/systemd/*"),
    "firewall.stays": ("files /etc/ufw/*", "files /etc/default/ufw", "units ufw.service"),
    "network.no-name-server": ("files /etc/resolv.conf",),
    "inbound.listening": ("listeners *",),
    "inference.loopback": ("listeners *", "units appliance-inference*.service"),
    "inference.active": ("units appliance-inference*.service",),
    "inference.quiet": ("files /etc/systemd/system/appliance-inference*.service*",),
    "inference.confined": ("files /etc/systemd/system/appliance-inference*.service*",),
    "installed.daily-audit": (
        f"units {daily.TIMER}",
        f"units {daily.SERVICE}",
        f"files /etc/systemd/system/{daily.TIMER}*",
        f"files /etc/systemd/system/{daily.SERVICE}*",
    ),
    "quiet.stopped": ("units *", "files /etc/cron*", "files /etc/update-motd.d/*"),
    "quiet.clock": ("units *",),
    "quiet.modules": ("files /etc/modprobe.d/*", "modules *"),
    "quiet.ssh-settings": ("files /etc/ssh/*",),
    "storage.swap": ("mounts swap *",),
    "storage.temporary": ("mounts /tmp",),
    "storage.hibernation": ("units hi*.target", "units hy*.target", "units suspend-then-hibernate.target"),
    "storage.mounted": ("mounts *",),
    "storage.opening": ("files /etc/crypttab",),
    "quiet.audit": ("files /etc/audit/*", "units auditd.service"),
}


@dataclass(frozen=True)
class Judged:
    """A promise, judged: ``subject`` as in ``drift.SUBJECTS``."""

    subject: str
    promise: str
    finding: Finding


class Declared:
    """Everything that is judged of one node."""

    def __init__(
        self, facts: Facts, inventory: Inventory, node: NodeEntry, data: HostData, container: str
    ) -> None:
        self.facts, self.inventory, self.node = facts, inventory, node
        self.data, self.container = data, container

    def judged(self) -> list[Judged]:
        """Every promise that can be judged by reading."""
        found = []
        for judge in (
            *(self._network, self._rules, self._units, self._time, self._host),
            *(self._storage, self._gpus, self._service),
        ):
            found += list(judge())
        return found

    def _read(self, name: str) -> str:
        status, text = self.facts.said[name]
        if status != 0:
            raise _Untold(text.strip() or f"exit status {status}")
        return text

    def _one(self, subject: str, promise: str, judge: Callable[[], Finding]) -> Judged:
        try:
            return Judged(subject, promise, judge())
        except _Untold as fault:
            found = f"the node cannot tell: {fault}"
            return Judged(subject, promise, Finding(kept=False, found=found, wanted="an answer"))

    def _network(self) -> Iterator[Judged]:
        node, read = self.node, self._read

        def there() -> tuple[list[links.Link], dict[str, str]]:
            return routes.json_lists(read("addresses")), links.cards(read("cards"))

        yield self._one("routes", "network.no-route-out", lambda: routes.judge_routes(read("routes"), node))
        yield self._one(
            "routes",
            "network.addresses",
            lambda: routes.judge_addresses(read("addresses"), node, there()[1]),
        )
        yield self._one("routes", "network.links", lambda: links.judge_links(there()[0], node, there()[1]))
        yield self._one(
            "routes",
            "network.no-autoconfiguration",
            lambda: routes.judge_autoconfiguration(read("autoconfiguration")),
        )
        yield self._one(
            "routes", "network.no-name-server", lambda: routes.judge_name_servers(read("name servers"))
        )
        yield self._one(
            "routes", "network.no-forwarding", lambda: routes.judge_forwarding(read("forwarding"))
        )

    def _rules(self) -> Iterator[Judged]:
        read, networks, port = self._read, self.inventory.management.networks, self.node.port

        def both() -> tuple[rules.RuleSet, rules.RuleSet]:
            return rules.parse_save(read("filter4")), rules.parse_save(read("filter6"))

        def declared() -> tuple[flows.FlowRule, ...]:
            there, pci = routes.json_lists(read("addresses")), links.cards(read("cards"))
            found = {each.name: links.find_link(there, each, pci) for each in self.node.interfaces}
            devices = {name: str(link["ifname"]) for name, link in found.items() if link}
            return flows.declared_rules(self.inventory, self.node, devices)

        for promise, judge in (
            ("policies", lambda: rules.judge_policies(*both())),
            ("out", lambda: rules.judge_out(*both(), networks, port, declared())),
            ("in", lambda: rules.judge_in(*both(), networks, port, declared())),
            ("through", lambda: rules.judge_through(*both())),
            ("nothing-beside", lambda: rules.judge_tables(read("tables"))),
            ("before-network", lambda: rules.judge_order(read("order"))),
            ("stays", lambda: rules.judge_kept(read("kept"))),
        ):
            yield self._one("rules", f"firewall.{promise}", judge)

    def _units(self) -> Iterator[Judged]:
        time = self.inventory.host.time.source
        yield self._one(
            "units",
            "quiet.stopped",
            lambda: autostart.judge_stopped(
                autostart.parse_listing(self._read("units")), Tries(), self.data, time
            ),
        )
        yield self._one(
            "units",
            "installed.daily-audit",
            lambda: daily.judge_daily(self._read("daily audit"), self.inventory.host.audit),
        )

    def _time(self) -> Iterator[Judged]:
        yield self._one(
            "time",
            "quiet.clock",
            lambda: clock.judge_clock(
                autostart.parse_listing(self._read("units")),
                self.inventory.host.time,
                self.data,
                chrony=self._read("chrony"),
                reading=self.facts.reading,
                earlier=(),
            ),
        )
        if self.node.connection == "ssh":
            yield Judged("time", "the clock", judge_offset(self.facts.reading))

    def _host(self) -> Iterator[Judged]:
        read, data, host, container = self._read, self.data, self.inventory.host, self.container
        for promise, judge in (
            ("kernel", lambda: kernel.judge_settings(read("kernel"), data, container)),
            ("modules", lambda: kernel.judge_modules(read("modules"), data, host, container)),
            ("module-lock", lambda: kernel.judge_lock(read("lock"), host, container)),
            ("audit", lambda: kernel.judge_audit(read("audit"), data, container)),
            ("ssh-settings", lambda: server.judge_settings(read("sshd"), data, self.inventory, self.node)),
        ):
            yield self._one("host", f"quiet.{promise}", judge)
        yield self._one(
            "installed", "installed.confirmed", lambda: installed.judge_confirmed(read("pending"))
        )

    def _storage(self) -> Iterator[Judged]:
        container, disks = self.container, self.node.disks

        def said() -> storage.Storage:
            return storage.parse_storage(self._read("storage"))

        for promise, judge in (
            ("swap", lambda: storage.judge_swap(said(), container)),
            ("temporary", lambda: storage.judge_temporary(said(), container)),
            ("dumps", lambda: storage.judge_dumps(said(), container)),
            ("hibernation", lambda: storage.judge_hibernation(said(), container)),
        ):
            yield self._one("storage", f"storage.{promise}", judge)
        if disks:
            yield self._one("storage", "storage.mounted", lambda: storage.judge_mounted(said(), disks))
            yield self._one("storage", "storage.opening", lambda: storage.judge_opening(said(), disks))

    def _gpus(self) -> Iterator[Judged]:
        if (partition := self.node.partition) is None:
            return
        yield self._one("gpus", "gpus.layout", lambda: gpus.judge_layout(self._read("gpus"), partition))
        yield self._one(
            "gpus",
            "gpus.teams",
            lambda: gpus.judge_teams(
                self._read("gpus"), partition, service.parse_services(self._read("service"))
            ),
        )

    def _service(self) -> Iterator[Judged]:
        wanted = instances(self.inventory, self.node)

        def each(judge: Callable[[service.Service, Instance], Finding]) -> Finding:
            return service.judge_each(wanted, service.parse_services(self._read("service")), judge)

        def listening() -> list[sockets.Socket]:
            return sockets.parse_sockets(self._read("listening"))

        node = self.node
        yield self._one(
            "listeners",
            "inbound.listening",
            lambda: sockets.judge_listening(listening(), node.port, node.flows),
        )
        for promise, judge in (
            ("active", lambda: each(lambda live, _one: service.judge_active(live))),
            (
                "loopback",
                lambda: each(
                    lambda live, one: sockets.judge_loopback_only(listening(), one.port, live.pids)
                ),
            ),
            ("own-user", lambda: each(lambda live, _one: service.judge_user(live))),
            ("quiet", lambda: each(lambda live, _one: service.judge_switches(live))),
            ("confined", lambda: each(lambda live, _one: service.judge_confined(live))),
        ):
            yield self._one("service", f"inference.{promise}", judge)


class _Untold(Exception):
    """A command failed; the text says how."""


def judge_offset(reading: clock.Reading) -> Finding:
    """The node's clock is near this station's, as far as one question can tell."""
    wanted = f"within {CLOCK_SECONDS} s of this station's"
    found = f"{reading.offset:+.0f} s (± {reading.error:.0f} s) from this station's"
    return Finding(abs(reading.offset) - reading.error <= CLOCK_SECONDS, found, wanted)


def explain(drifts: Sequence[Drift], judged: Sequence[Judged]) -> list[Drift]:
    """The drifts, with the promises that they break, and after them those that none of them explains."""
    told = list(drifts)
    for each in judged:
        if each.finding.kept or each.finding.reason:
            continue
        causes = CAUSES.get(each.promise, ())
        at = next((at for at, drift in enumerate(told[: len(drifts)]) if _is_cause(drift, causes)), None)
        if at is None:
            told.append(Drift(each.subject, each.promise, each.finding.found, each.finding.wanted))
        else:
            words = f"{each.promise}: {each.finding.found}"
            told[at] = replace(told[at], breaks=(*told[at].breaks, words))
    return told


def _is_cause(drift: Drift, causes: Sequence[str]) -> bool:
    return any(fnmatchcase(f"{drift.subject} {drift.what}", cause) for cause in causes)


def not_judged(judged: Sequence[Judged]) -> list[NotCompared]:
    """Promises that could not be judged here, and why."""
    return [NotCompared(each.promise, each.finding.reason) for each in judged if each.finding.reason]
