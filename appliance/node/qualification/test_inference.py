"""The model answers on the node, and its service is held tight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.node.qualification import service, sockets
from appliance.node.qualification.plugin import promise

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.node.qualification.ask import Answers
    from appliance.node.qualification.finding import Finding
    from appliance.node.qualification.subject import Subject

    Judge = Callable[[Finding], None]
    Read = Callable[[str], str]


@pytest.fixture
def live(read: Read) -> service.Service:
    """The unit and its process."""
    return service.parse_live(read(service.LIVE))


@promise("inference.answers", "The model answers a question on loopback")
def test_answers(subject: Subject, answers: Answers, judge: Judge) -> None:
    judge(service.judge_answer(answers, subject.bundle.model_name))


@promise("inference.active", "The service runs, and starts with the node")
def test_active(live: service.Service, judge: Judge) -> None:
    judge(service.judge_active(live))


@promise("inference.loopback", "The service listens on loopback and on nothing else")
def test_loopback(
    subject: Subject, live: service.Service, listening: list[sockets.Socket], judge: Judge
) -> None:
    judge(sockets.judge_loopback_only(listening, subject.inventory.inference_port, live.pids))


@promise("inference.own-user", "The service runs as a user of its own")
def test_own_user(live: service.Service, judge: Judge) -> None:
    judge(service.judge_user(live))


@promise("inference.signed-model", "The service was given the signed model, by its whole path")
def test_signed_model(subject: Subject, live: service.Service, judge: Judge) -> None:
    judge(service.judge_model_path(live, subject.bundle.model_path))


@promise("inference.quiet", "Every switch against phoning home is set in the running process")
def test_quiet(live: service.Service, judge: Judge) -> None:
    judge(service.judge_switches(live))


@promise("inference.confined", "The running process has no privileges, and its unit denies it the network")
def test_confined(live: service.Service, judge: Judge) -> None:
    judge(service.judge_confined(live))
