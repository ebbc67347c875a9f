"""What can come in from outside, tried from the station."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from appliance.node.qualification import escapes, sockets
from appliance.node.qualification.finding import Finding, not_run
from appliance.node.qualification.plugin import promise

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.node.probe import OutboundProbe
    from appliance.node.qualification.subject import Subject

    Judge = Callable[[Finding], None]


@promise("inbound.ssh-login", "A fresh SSH login from the management network works")
def test_ssh_login(subject: Subject, judge: Judge) -> None:
    wanted = "`true` ends well over a new connection, with the pinned host key"
    if subject.local:
        judge(not_run("installed from the node itself: no SSH is used", wanted=wanted))
        return
    found, kept = [], bool(subject.fresh)
    for station in subject.fresh:
        try:
            done = subject.run_fresh(station, "true", timeout=15)
            result, ok = f"exit status {done.returncode}", done.returncode == 0
            if not ok:
                result += f": {done.stderr.decode(errors='replace').strip()}"
        except subprocess.TimeoutExpired:
            result, ok = "no answer in 15 s", False
        kept = kept and ok
        found.append(f"from {station}: {result}")
    text = "\n".join(found) or "no operator address of the node's family"
    judge(Finding(kept, text, wanted))


@promise("inbound.ssh-management", "SSH answers the operator's addresses")
def test_ssh_answers_management(subject: Subject, probe: OutboundProbe, judge: Judge) -> None:
    judge(
        escapes.judge_ssh(
            probe,
            [str(each) for each in subject.inventory.management.operator],
            at=subject.node.management_addresses,
            open_=True,
            wanted="SSH greets every operator address, IPv4 and IPv6",
            why_not="installed from the node itself: nobody is outside to try",
        )
    )


@promise("inbound.ssh-elsewhere", "SSH does not answer an address outside the management networks")
def test_ssh_silent_elsewhere(subject: Subject, probe: OutboundProbe, judge: Judge) -> None:
    judge(
        escapes.judge_ssh(
            probe,
            [str(each) for each in subject.inventory.management.foreign],
            open_=False,
            wanted="no connection to SSH from an address outside the management networks",
            why_not="the inventory names no management.foreign address of the station to try it from",
        )
    )


@promise("inbound.closed", "A server on the node cannot be reached from the station, whatever its port")
def test_new_server_is_closed(subject: Subject, probe: OutboundProbe, judge: Judge) -> None:
    judge(
        escapes.judge_doors(
            probe,
            "own",
            local=subject.local,
            wanted="servers opened on the node for the test stay out of reach",
        )
    )


@promise("inbound.services", "The inference port and all other services are closed from outside")
def test_services_are_closed(subject: Subject, probe: OutboundProbe, judge: Judge) -> None:
    port = subject.inventory.inference_port
    wanted = f"no connection to port {port}, to common ports, or to any port something listens on, but SSH"
    judge(escapes.judge_doors(probe, "port", local=subject.local, wanted=wanted))


@promise("inbound.listening", "Only SSH and the ports of declared flows listen where somebody could ask")
def test_only_ssh_listens(subject: Subject, listening: list[sockets.Socket], judge: Judge) -> None:
    judge(sockets.judge_listening(listening, subject.node.port, subject.node.flows))
