"""Lines of the Linux audit log as records: ``type=… msg=audit(SECONDS:SERIAL): name=value …``.  Pure.

The grammar is that of auditd (auditd(8), its log format is described in the Audit project's documents):
names and values, values in quotation marks or without blanks; what auditd adds for readers comes after a
byte 0x1d.  Of a name that comes twice, all values are kept in order.
"""

from __future__ import annotations

import re
from typing import Final

from appliance.export.sources.source import as_record

#: The node's daily audit, another thing altogether, is the stream ``audit``.
AUDIT_LOG: Final = "audit-log"
_HEAD: Final = re.compile(r"type=(\S+) msg=audit\(([0-9]{1,12})\.([0-9]{3}):([0-9]{1,20})\):")
_FIELD: Final = re.compile(r"""([A-Za-z0-9_-]+)=("[^"]*"|'[^']*'|[^\s\x1d]*)""")
#: Names that a record's own line cannot take.
_TYPE: Final = "type"
_SERIAL: Final = "serial"


def audit_record(line: bytes) -> bytes:
    """The record of a line; of one that is no audit record, its text."""
    text = line.decode("utf-8", "backslashreplace")
    head = _HEAD.match(text)
    if head is None:
        return as_record({"stream": AUDIT_LOG, "fields": {"line": text}})
    fields: dict[str, str | list[str]] = {_TYPE: head[1], _SERIAL: head[4]}
    for name, value in _FIELD.findall(text, head.end()):
        plain = value[1:-1] if value[:1] in {'"', "'"} else value
        known = fields.get(name)
        if known is None:
            fields[name] = plain
        elif isinstance(known, list):
            known.append(plain)
        else:
            fields[name] = [known, plain]
    return as_record({"stream": AUDIT_LOG, "time": int(head[2]) * 1000 + int(head[3]), "fields": fields})
