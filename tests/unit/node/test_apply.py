"""What apply's result means for people: the right name, and what happens by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import ApplyFailed, NodeUnreachable
from appliance.node.ansible.events import HostResult, PlaybookResult, Trouble
from appliance.node.apply import judge, node_result

LOG = Path("/state/ansible.log")


def result(**changed: object) -> PlaybookResult:
    """A run that ended well, with some things changed."""
    values: dict[str, object] = {"hosts": {"gpu-01": HostResult(ok=3), "gpu-02": HostResult(ok=3)}}
    return PlaybookResult(**({**values, "complete": True} | changed))  # type: ignore[arg-type]


def trouble(status: str, host: str = "gpu-01") -> Trouble:
    return Trouble(host, "firewall", "Deny", status, "the reason")


def test_a_clean_run_raises_nothing() -> None:
    judge(result(), revert_after=120, log=LOG)
    assert node_result(result(), "gpu-01") == "done"


def test_a_failed_task_names_host_role_task_and_reason() -> None:
    with pytest.raises(ApplyFailed) as caught:
        judge(result(troubles=[trouble("failed")]), revert_after=120, log=LOG)
    assert caught.value.exit_code == 7
    assert caught.value.found == "gpu-01: firewall: Deny: the reason"
    assert str(LOG) in (caught.value.hint or "")
    assert "by itself" not in (caught.value.hint or "")


def test_a_lost_connection_while_the_network_changes_tells_that_it_goes_back() -> None:
    hosts = {"gpu-01": HostResult(unreachable=1, cut=True), "gpu-02": HostResult()}
    with pytest.raises(NodeUnreachable) as caught:
        judge(result(hosts=hosts, troubles=[trouble("unreachable")]), revert_after=45, log=LOG)
    assert caught.value.exit_code == 6
    assert "gpu-01 was being changed" in (caught.value.hint or "")
    assert "by itself within 45 s" in (caught.value.hint or "")


def test_a_failure_counts_more_than_a_lost_connection() -> None:
    both = [trouble("unreachable"), trouble("failed", "gpu-02")]
    with pytest.raises(ApplyFailed, match="gpu-01, gpu-02"):
        judge(result(troubles=both), revert_after=120, log=LOG)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"no_hosts": True}, "no task ran"),
        ({"hosts": {"gpu-01": HostResult(ok=1), "gpu-02": HostResult()}}, "no task ran on gpu-02"),
        ({"complete": False}, "ended before it was done"),
        ({"status": 1}, "ended before it was done"),
    ],
)
def test_a_run_that_did_not_do_all_is_a_failure(changed: dict[str, object], words: str) -> None:
    with pytest.raises(ApplyFailed, match=words):
        judge(result(**changed), revert_after=120, log=LOG)
    if changed.keys() != {"no_hosts"}:
        assert node_result(result(**changed), "gpu-01") == "interrupted"


def test_one_nodes_failure_interrupts_the_others() -> None:
    broken = result(troubles=[trouble("failed")])
    assert node_result(broken, "gpu-01") == "failed"
    assert node_result(broken, "gpu-02") == "interrupted"


def test_what_went_wrong_in_one_run_went_wrong_in_all() -> None:
    total = result(hosts={"gpu-01": HostResult(), "gpu-02": HostResult()})
    total.add(PlaybookResult({"gpu-01": HostResult(ok=1)}, troubles=[trouble("failed")], status=2))
    assert (total.complete, total.status, len(total.troubles)) == (False, 2, 1)
    assert total.hosts["gpu-01"].ok == 1
