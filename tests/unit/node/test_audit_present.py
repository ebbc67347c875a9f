"""An audit as it is shown, and what the command ends with."""

from __future__ import annotations

import json

import pytest

from appliance.errors import NodeUnreachable, PreflightFailed
from appliance.node.audit.drift import SOURCES, Drift, NodeAudit, NotCompared
from appliance.node.audit.present import audit_text, audit_values, exit_code

SAME = NodeAudit(
    "gpu-01",
    compared={"rules": 12, "files": 40000},
    source="station",
    baseline="d" * 64,
    taken="2026-11-29T12:00:00Z",
    seconds=3.21,
)
DRIFTED = NodeAudit(
    "gpu-02",
    drifts=(
        Drift("files", "/etc/ssh/x", "mode 0666", "mode 0644", ("quiet.ssh-settings: X yes, wanted no",)),
        Drift("rules", "ip filter chain OUTPUT", "accept\nreject", "not there"),
    ),
    not_compared=(NotCompared("kernel", "its host's"),),
    source="node",
    baseline="e" * 64,
    taken="2026-11-29T12:00:00Z",
)
SILENT = NodeAudit(
    "gpu-03", trouble=NodeUnreachable("gpu-03 cannot be audited", found="silence", hint="look")
)
UNFIT = NodeAudit("gpu-04", trouble=PreflightFailed("gpu-04 cannot be audited"))


@pytest.mark.parametrize(
    ("audits", "code"),
    [
        ([SAME], 0),
        ([SAME, DRIFTED], 8),
        ([SILENT, DRIFTED], 8),
        ([SAME, SILENT], 6),
        ([UNFIT, SILENT], 6),
        ([UNFIT, SAME], 5),
    ],
)
def test_what_is_known_to_be_wrong_counts_before_what_could_not_be_asked(
    audits: list[NodeAudit], code: int
) -> None:
    assert exit_code(audits) == code


def test_each_difference_is_told_as_found_and_wanted_with_what_to_do() -> None:
    text = audit_text([SAME, DRIFTED, SILENT])
    assert text.splitlines()[0] == "gpu-01: 0 differences, in 3.2 s"
    assert f"  baseline of 2026-11-29T12:00:00Z, SHA-256 {'d' * 64}: {SOURCES['station']}" in text
    assert "  compared: 12 rules, 40000 files" in text
    assert "  not compared: kernel: its host's" in text
    assert text[text.index("  files: /etc") : text.index("gpu-03")] == (
        "  files: /etc/ssh/x\n"
        "    found:  mode 0666\n"
        "    wanted: mode 0644\n"
        "    breaks: quiet.ssh-settings: X yes, wanted no\n"
        f"    do:     {DRIFTED.drifts[0].do}\n"
        "  rules: ip filter chain OUTPUT\n"
        "    found:  accept\n"
        "            reject\n"
        "    wanted: not there\n"
        f"    do:     {DRIFTED.drifts[1].do}\n"
    )
    assert "gpu-03: not audited: gpu-03 cannot be audited\n  found:  silence\n  do:     look\n" in text
    assert text.endswith("2 differences on gpu-02 (2 nodes audited); not audited: gpu-03")


def test_nothing_to_tell_is_told() -> None:
    assert audit_text([SAME]).endswith("no difference (1 node audited)")


def test_as_values_for_programs() -> None:
    values = json.loads(json.dumps(audit_values([SAME, DRIFTED, SILENT])))
    assert (values["format"], values["drift"], values["unreachable"]) == (1, 2, ["gpu-03"])
    assert values["nodes"]["gpu-01"]["result"] == "same"
    assert values["nodes"]["gpu-02"]["drift"][0] == {
        "subject": "files",
        "what": "/etc/ssh/x",
        "found": "mode 0666",
        "wanted": "mode 0644",
        "breaks": ["quiet.ssh-settings: X yes, wanted no"],
        "do": DRIFTED.drifts[0].do,
    }
    assert values["nodes"]["gpu-02"]["reference"]["source"] == "node"
    assert values["nodes"]["gpu-02"]["not_compared"] == [{"what": "kernel", "reason": "its host's"}]
    assert values["nodes"]["gpu-03"]["trouble"]["error"] == "NodeUnreachable"
