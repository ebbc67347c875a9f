"""What holds of the parts of a root together; a root that breaks one of these rules is no root.

- Keys are stored under their own identity, are sound (``appliance.trust.keys``, ``appliance.trust.mldsa``),
  and each serves a role.
- The roles ``root`` and ``release`` are there; no role is unknown.
- A role's threshold is at least 1 and at most the number of distinct *holders* of its keys.
- ``solo`` is true exactly if one person alone can fill the role root, release or patch.
- Unless solo, no key serves both release and patch.
- ML-DSA keys stand beside SSH keys and never alone: in a role, a holder has at most one, and has an SSH
  key there too.
- The policy ``pq: require`` gives every holder of every role an ML-DSA key there.
- The profile allows the kinds of its keys and is content with ``pq`` (``appliance.trust.profiles``).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from appliance.trust.mldsa import PostQuantumKey

if TYPE_CHECKING:
    from appliance.trust.record import Record
    from appliance.trust.root import Root

REQUIRED: Final = frozenset({"root", "release"})
#: Roles that put software on a node: one person filling one of them alone is what "solo" admits.
_TWO_PERSON: Final = ("root", "release", "patch")


def alone_in(root: Root) -> list[str]:
    """The roles that put software on a node and that one person alone can fill."""
    return [role for role in _TWO_PERSON if role in root.roles and root.roles[role].threshold == 1]


def check_together(top: Record, root: Root) -> None:
    """Refuse a root whose parts do not fit together; ``top`` raises.

    Raises:
        RootInvalid: saying which rule of this module it breaks.
    """
    used = {keyid for rule in root.roles.values() for keyid in rule.keys}
    if unused := root.keys.keys() - used:
        top.refuse("a key serves no role", found=", ".join(sorted(unused)))
    alone = alone_in(root)
    if root.solo != bool(alone):
        top.refuse(
            "solo does not say the truth",
            found=f"solo: {root.solo}; filled by one person: {', '.join(alone) or 'no role'}",
            wanted="solo exactly if one person alone fills root, release or patch",
        )
    both = set(root.roles["release"].keys) & set(root.roles["patch"].keys if "patch" in root.roles else ())
    if both and not root.solo:
        top.refuse("a key serves both release and patch", found=", ".join(sorted(both)))
    for role in root.roles:
        _check_post_quantum(top, root, role)
    _check_profile(top, root)


def _check_post_quantum(top: Record, root: Root, role: str) -> None:
    """The rules about ML-DSA keys in one role."""
    entries = [root.keys[keyid] for keyid in root.roles[role].keys]
    ssh = {entry.holder for entry in entries if not isinstance(entry.key, PostQuantumKey)}
    later = Counter(entry.holder for entry in entries if isinstance(entry.key, PostQuantumKey))
    if bare := later.keys() - ssh:
        top.refuse(f"an ML-DSA key stands alone in the role {role}", found=", ".join(sorted(bare)))
    if several := [holder for holder, count in later.items() if count > 1]:
        top.refuse(f"a holder has several ML-DSA keys in the role {role}", found=", ".join(sorted(several)))
    if root.policy.pq == "require" and (without := ssh - later.keys()):
        top.refuse(
            f"the policy requires ML-DSA signatures, and holders of the role {role} have no such key",
            found=", ".join(sorted(without)),
            wanted="an ML-DSA-87 key for each",
        )


def _check_profile(top: Record, root: Root) -> None:
    profile = root.policy.rules
    if profile.post_quantum is not None and root.policy.pq != profile.post_quantum:
        top.refuse(
            f"the profile {profile.name} asks for ML-DSA",
            found=f"pq: {root.policy.pq}",
            wanted=f"pq: {profile.post_quantum}",
        )
    if profile.ssh_keys is None:
        return
    kinds = {
        entry.key.algorithm for entry in root.keys.values() if not isinstance(entry.key, PostQuantumKey)
    }
    if others := kinds - profile.ssh_keys:
        top.refuse(
            f"the profile {profile.name} allows no such key",
            found=", ".join(sorted(others)),
            wanted=", ".join(sorted(profile.ssh_keys)),
        )
