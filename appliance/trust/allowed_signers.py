"""The root's keys in the form ``ssh-keygen -Y verify`` reads (ssh-keygen(1), ALLOWED SIGNERS)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.trust.mldsa import PostQuantumKey
from appliance.trust.root import namespace

if TYPE_CHECKING:
    from appliance.trust.root import Root


def allowed_signers(root: Root) -> str:
    """One line per key: holder, the namespaces of its roles, the key.

    ML-DSA keys are left out: OpenSSH has none like them, and openssl checks their signatures.

    No ``valid-before``: it would be judged by the reviewer's clock.  Sorted, so that one root gives
    one text, whose SHA-256 can be compared.
    """
    lines = []
    for keyid, entry in root.keys.items():
        if isinstance(entry.key, PostQuantumKey):
            continue
        roles = sorted(role for role, rule in root.roles.items() if keyid in rule.keys)
        spaces = ",".join(namespace(role) for role in roles)
        lines.append(f'{entry.holder} namespaces="{spaces}" {entry.key.text}\n')
    return "".join(sorted(lines))
