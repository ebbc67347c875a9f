"""What is different in the next root, for the people who are to sign it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.trust.root import ROLES

if TYPE_CHECKING:
    from appliance.trust.root import Root

_KEY_DIGITS: Final = 16


def root_changes(before: Root, after: Root) -> list[str]:
    """Every difference, one line each, in a fixed order: keys, roles, thresholds, policy.

    Together the lines say all of it: who reads them need not compare the files.
    """
    return [*_keys(before, after), *_roles(before, after), *_policy(before, after)]


def _keys(before: Root, after: Root) -> list[str]:
    gone = sorted(before.keys.keys() - after.keys.keys())
    new = sorted(after.keys.keys() - before.keys.keys())
    lines = [f"gone: {_key(before, keyid)}, which served {_served(before, keyid)}" for keyid in gone]
    lines += [f"new: {_key(after, keyid)}, which serves {_served(after, keyid)}" for keyid in new]
    for keyid in sorted(before.keys.keys() & after.keys.keys()):
        holder, other = before.keys[keyid].holder, after.keys[keyid].holder
        if holder != other:
            lines.append(f"key {keyid[:_KEY_DIGITS]} of {holder} is now said to be held by {other}")
        if (was := _served(before, keyid)) != (now := _served(after, keyid)):
            lines.append(f"{_key(after, keyid)} served {was}, and now {now}")
    return lines


def _roles(before: Root, after: Root) -> list[str]:
    lines = [
        f"role {role} is given up" for role in ROLES if role in before.roles.keys() - after.roles.keys()
    ]
    for role in ROLES:
        if (rule := after.roles.get(role)) is None:
            continue
        now = f"{rule.threshold} of {len(after.holders(role))}"
        if role not in before.roles:
            lines.append(f"role {role} is new: {now}")
            continue
        was = f"{before.roles[role].threshold} of {len(before.holders(role))}"
        if was != now:
            lines.append(f"role {role}: {was}, and now {now}")
    return lines


def _policy(before: Root, after: Root) -> list[str]:
    lines = []
    for name, was, now in (
        ("ml-dsa", before.policy.pq, after.policy.pq),
        ("profile", before.policy.profile, after.policy.profile),
    ):
        if was != now:
            lines.append(f"{name}: {was}, and now {now}")
    if before.solo != after.solo:
        lines.append("one person alone can release from now on" if after.solo else "no longer solo")
    return lines


def _key(root: Root, keyid: str) -> str:
    entry = root.keys[keyid]
    return f"{entry.key.algorithm} key {keyid[:_KEY_DIGITS]} of {entry.holder}"


def _served(root: Root, keyid: str) -> str:
    return ", ".join(role for role in ROLES if role in root.roles and keyid in root.roles[role].keys)
