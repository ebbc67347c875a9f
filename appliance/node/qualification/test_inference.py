"""The model answers on the node, and its service is held tight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.definition.partition import instances
from appliance.node.qualification import service, sockets
from appliance.node.qualification.finding import together
from appliance.node.qualification.plugin import promise

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.definition.partition import Instance
    from appliance.node.qualification.ask import Answers
    from appliance.node.qualification.finding import Finding
    from appliance.node.qualification.subject import Subject

    Judge = Callable[[Finding], None]
    Read = Callable[[str], str]
    Each = Callable[[Callable[[service.Service, Instance], Finding]], Finding]


@pytest.fixture
def each(read: Read, subject: Subject) -> Each:
    """Judges every server of the node by its unit and its process."""
    services = service.parse_services(read(service.LIVE))
    wanted = instances(subject.inventory, subject.node)
    return lambda judge: service.judge_each(wanted, services, judge)


@promise("inference.answers", "The model answers a question on loopback")
def test_answers(subject: Subject, answers: dict[int, Answers], judge: Judge) -> None:
    found = {
        one.unit: service.judge_answer(answers[one.port], subject.bundle.model_name)
        for one in instances(subject.inventory, subject.node)
    }
    judge(together(found))


@promise("inference.active", "The service runs, and starts with the node")
def test_active(each: Each, judge: Judge) -> None:
    judge(each(lambda live, _one: service.judge_active(live)))


@promise("inference.loopback", "The service listens on loopback and on nothing else")
def test_loopback(each: Each, listening: list[sockets.Socket], judge: Judge) -> None:
    judge(each(lambda live, one: sockets.judge_loopback_only(listening, one.port, live.pids)))


@promise("inference.own-user", "The service runs as a user of its own")
def test_own_user(each: Each, judge: Judge) -> None:
    judge(each(lambda live, _one: service.judge_user(live)))


@promise("inference.signed-model", "The service was given the signed model, by its whole path")
def test_signed_model(subject: Subject, each: Each, judge: Judge) -> None:
    judge(each(lambda live, _one: service.judge_model_path(live, subject.bundle.model_path)))


@promise("inference.quiet", "Every switch against phoning home is set in the running process")
def test_quiet(each: Each, judge: Judge) -> None:
    judge(each(lambda live, _one: service.judge_switches(live)))


@promise("inference.confined", "The running process has no privileges, and its unit denies it the network")
def test_confined(each: Each, judge: Judge) -> None:
    judge(each(lambda live, _one: service.judge_confined(live)))
