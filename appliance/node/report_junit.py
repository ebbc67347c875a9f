"""The report as JUnit XML, for dashboards that read nothing else: one test case per item."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from appliance.node.report import Item, QualificationReport

#: What XML 1.0 cannot carry (section 2.2); a node may have put anything into an answer.
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(report: QualificationReport) -> str:
    """One ``testsuite``; failed items have ``failure``, items that were not run ``skipped``."""
    suite = ET.Element(
        "testsuite",
        name=_clean(f"qualification of {report.node}"),
        tests=str(len(report.items)),
        failures=str(len(report.failed)),
        errors="0",
        skipped=str(len(report.not_run)),
        time=f"{report.seconds:.3f}",
        timestamp=report.started.removesuffix("Z"),
        hostname=_clean(report.node),
    )
    properties = ET.SubElement(suite, "properties")
    for name in ("site", "product", "version", "sequence", "digest", "toolkit", "ruleset"):
        ET.SubElement(properties, "property", name=name, value=_clean(str(getattr(report, name))))
    for item in report.items:
        suite.append(_case(item, report.node))
    ET.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _case(item: Item, node: str) -> ET.Element:
    case = ET.Element(
        "testcase",
        name=_clean(item.name),
        classname=_clean(f"{node}.{item.section}"),
        time=f"{item.seconds:.3f}",
    )
    told = _clean(f"{item.title}\nfound: {item.found}\nwanted: {item.wanted}")
    if item.status == "failed":
        ET.SubElement(case, "failure", message=_clean(item.title)).text = told
    elif item.status == "not-run":
        ET.SubElement(case, "skipped", message=_clean(item.reason))
    else:
        ET.SubElement(case, "system-out").text = told
    return case


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
