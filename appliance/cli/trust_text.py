"""How documents and signatures are shown: as lines for people, and as values for JSON."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from appliance.cli.console import print_result

if TYPE_CHECKING:
    from appliance.bundle.ceremony.drafting import Draft
    from appliance.bundle.ceremony.proposing import WrittenRoot
    from appliance.trust.kinds import Document
    from appliance.trust.root import Root
    from appliance.trust.standing import Count, Standing


_CHANGE: Final = "change       "


def written_lines(written: WrittenRoot) -> list[str]:
    """A root that was just written, and who has to sign it."""
    root = written.root
    needed = ", ".join(
        f"{role} {rule.threshold} of {len(root.holders(role))}" for role, rule in root.roles.items()
    )
    lines = [
        f"root         {written.path}",
        f"fingerprint  {root.fingerprint}",
        f"signers      {written.signers_path}",
        f"fingerprint  {written.signers_digest}",
        f"holders      {', '.join(root.holders('release'))}",
        f"needed       {needed}",
    ]
    lines += policy_lines(root)
    if root.solo:
        lines.append("note         solo: one person alone can release")
    lines += change_lines(written.before, root)
    for each in (root,) if written.before is None else (written.before, root):
        wanted = f"{each.roles['root'].threshold} of {', '.join(each.holders('root'))}"
        lines.append(f"to be signed by {wanted} (role root of root {each.version})")
    return lines


def written_values(written: WrittenRoot) -> dict[str, object]:
    """The same for programs."""
    root = written.root
    return {
        "root": str(written.path),
        "version": root.version,
        "fingerprint": root.fingerprint,
        "allowed_signers": str(written.signers_path),
        "allowed_signers_fingerprint": written.signers_digest,
        "holders": list(root.holders("release")),
        "thresholds": {role: rule.threshold for role, rule in root.roles.items()},
        "policy": {"pq": root.policy.pq, "profile": root.policy.profile},
        "solo": root.solo,
        "changes": [line.removeprefix(_CHANGE) for line in change_lines(written.before, root)],
        "to_sign": [
            {
                "root": each.version,
                "threshold": each.roles["root"].threshold,
                "holders": list(each.holders("root")),
            }
            for each in ((root,) if written.before is None else (written.before, root))
        ],
    }


def print_draft(draft: Draft, *, as_json: bool) -> None:
    """Print a document that was just written, and who has to sign it."""
    from appliance.trust.kinds import document_bytes
    from appliance.trust.revocation import Revocation
    from appliance.trust.root import Root
    from appliance.trust.statements import ROLE_OF, Admission

    document = draft.document
    if isinstance(document, Revocation | Root):
        role, otherwise = "revoke", ""
    else:
        role = ROLE_OF[type(document)]
        moved = role == "site" and not isinstance(document, Admission)
        otherwise = ", or release where the root has no site" if moved else ""
    digest = hashlib.sha256(document_bytes(document)).hexdigest()
    lines = [
        f"written      {draft.path}",
        *document_lines(document),
        f"fingerprint  {digest}",
        *(f"note         {note}" for note in draft.notes),
        f"to be signed in the role {role}{otherwise}",
        f"sign by      appliance trust sign {draft.path} --root root.N.json --key KEY",
    ]
    values = {
        "path": str(draft.path),
        "document": document_values(document),
        "fingerprint": digest,
        "role": role,
        "notes": list(draft.notes),
    }
    print_result("\n".join(lines), values, as_json=as_json)


def change_lines(before: Root | None, after: Document) -> list[str]:
    """What is different in the next root; nothing where there is none before."""
    from appliance.trust.root import Root
    from appliance.trust.root_changes import root_changes

    if before is None or not isinstance(after, Root) or after.version == 1:
        return []
    return [f"{_CHANGE}{line}" for line in root_changes(before, after)]


def policy_lines(root: Root) -> list[str]:
    """What a root asks beyond thresholds; nothing if it asks nothing."""
    lines = []
    if root.policy.pq != "off":
        lines.append(f"ml-dsa       {root.policy.pq}")
    if root.policy.profile != "standard":
        lines.append(f"profile      {root.policy.profile}")
    return lines


def document_lines(document: Document, root: Root | None = None) -> list[str]:
    """What a document other than a root says; a root's own page is ``trust inspect``'s."""
    from appliance.trust.kinds import document_type
    from appliance.trust.revocation import Revocation
    from appliance.trust.root import Root

    if isinstance(document, Root):
        return [f"root         version {document.version}"]
    if isinstance(document, Revocation):
        lines = [f"revocation   serial {document.serial}"]
        for keyid in document.keys:
            entry = root.keys.get(keyid) if root else None
            lines.append(f"key          {keyid}" + (f" of {entry.holder}" if entry else ""))
        return lines + [f"bundle       {digest}" for digest in document.bundles]
    lines = [f"{document_type(document):<12} "]
    for key, value in document_values(document).items():
        if key not in {"format", "type"}:
            lines.append(f"{key:<12} {_spelled(value)}")
    return [lines[0].rstrip(), *lines[1:]]


def document_values(document: Document) -> dict[str, object]:
    """The document as it is written."""
    import json

    from appliance.trust.kinds import document_bytes

    return dict(json.loads(document_bytes(document)))


def standing_lines(standing: Standing) -> list[str]:
    """Who signed, what is missing, what is wrong."""
    lines = []
    for signer in standing.signers:
        more = " and ML-DSA-87" if signer.post_quantum else ""
        lines.append(f"signed by    {signer.holder}, {signer.fingerprint}{more}, as {standing.role}")
    for count in standing.counts:
        lines.append(
            f"counted      by root {count.version}: {len(count.signed)} of {count.threshold} needed "
            f"({'enough' if count.enough else 'not enough yet'})"
            + (f": {', '.join(count.signed)}" if count.signed else "")
        )
        if count.half:
            lines.append(f"half         without the ML-DSA signature: {', '.join(count.half)}")
        if not count.enough:
            lines.append(
                f"missing      {count.threshold - len(count.signed)} of {', '.join(count.missing)}"
            )
    lines += [f"spoilt       {refusal.message}" for refusal in standing.refusals]
    lines += [f"note         {note}" for note in standing.notes]
    return lines


def standing_values(standing: Standing) -> dict[str, object]:
    """The same for programs."""
    return {
        "role": standing.role,
        "accepted": standing.accepted,
        "signers": [
            {
                "holder": signer.holder,
                "keyid": signer.keyid,
                "key": signer.fingerprint,
                "post_quantum": list(signer.post_quantum),
            }
            for signer in standing.signers
        ],
        "counts": [_count_values(count) for count in standing.counts],
        "refusals": [{"error": each.name, "message": each.message} for each in standing.refusals],
        "notes": list(standing.notes),
    }


def _count_values(count: Count) -> dict[str, object]:
    return {
        "root": count.version,
        "threshold": count.threshold,
        "signed": list(count.signed),
        "half": list(count.half),
        "missing": list(count.missing),
        "enough": count.enough,
    }


def _spelled(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
