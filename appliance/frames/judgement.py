"""Judge whole captures: count what was allowed, name what was not.  Pure, but that frames are read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from appliance.frames.describe import describe
from appliance.frames.judge import Beyond, allowed_as

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from appliance.frames.cable import Cable
    from appliance.frames.describe import Description
    from appliance.frames.pcap import Frame

#: Of how many frames beyond each capture keeps more than the number; a flood must not fill memory.
KEPT: Final = 1000
#: And how many are printed for people.
_SHOWN: Final = 20


@dataclass(frozen=True)
class Stray:
    """A frame beyond what is allowed: where in the capture, when, what it says, why it is not allowed.

    ``nanoseconds`` since 1970 by the capture's clock; ``after`` since the capture's first frame.
    """

    number: int
    nanoseconds: int
    after: int
    length: int
    says: Description
    reason: str

    def as_dict(self) -> dict[str, object]:
        """As JSON values; times in seconds."""
        moment = datetime.fromtimestamp(self.nanoseconds // 1_000_000_000, UTC)
        part = self.nanoseconds // 1000 % 1_000_000
        return {
            "number": self.number,
            "time": f"{moment:%Y-%m-%dT%H:%M:%S}.{part:06d}Z",
            "after": self.after / 1e9,
            "length": self.length,
            **self.says.as_dict(),
            "reason": self.reason,
        }

    def __str__(self) -> str:
        return f"frame {self.number} at {self.after / 1e9:+.6f} s: {self.says}: {self.reason}"


@dataclass
class Judged:
    """One capture, judged.

    ``allowed``: by what they are allowed as, how many; ``others``: frames of who is not the node;
    ``seconds`` from the first frame to the last.
    """

    card: str
    name: str
    allowed: Counter[str] = field(default_factory=Counter)
    others: int = 0
    beyond: int = 0
    strays: list[Stray] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        """How many frames were the node's."""
        return self.allowed.total() + self.beyond

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "interface": self.card,
            "capture": self.name,
            "seconds": self.seconds,
            "frames": self.sent,
            "of_others": self.others,
            "allowed": dict(sorted(self.allowed.items())),
            "beyond": self.beyond,
            "frames_beyond": [stray.as_dict() for stray in self.strays],
        }


def judge_capture(
    frames: Iterable[Frame], cable: Cable, *, name: str, far: Collection[str] = (), first: int = 1
) -> Judged:
    """Judge the frames that came from the node.

    Args:
        frames: all of a capture.
        cable: what its card's cable may carry.
        name: what the capture is called.
        far: MAC addresses of who is not the node; frames from them are counted and not judged.
        first: number of the first frame to judge; those before it are passed over.
    """
    judged, began = Judged(cable.card, name), None
    for frame in frames:
        if frame.number < first:
            continue
        began = frame.nanoseconds if began is None else began
        judged.seconds = (frame.nanoseconds - began) / 1e9
        if frame.data[6:12].hex(":") in far:
            judged.others += 1
            continue
        try:
            if frame.length != len(frame.data):
                raise Beyond(f"not whole in the capture: {len(frame.data)} of {frame.length} bytes")
            judged.allowed[allowed_as(cable, frame.data)] += 1
        except Beyond as verdict:
            judged.beyond += 1
            if len(judged.strays) < KEPT:
                after = frame.nanoseconds - began
                says = describe(frame.data)
                judged.strays.append(
                    Stray(frame.number, frame.nanoseconds, after, frame.length, says, str(verdict))
                )
    return judged


def values_of(judged: Sequence[Judged]) -> dict[str, object]:
    """All of it as one JSON object."""
    return {
        "frames": sum(each.sent for each in judged),
        "beyond": sum(each.beyond for each in judged),
        "captures": [each.as_dict() for each in judged],
    }


def text_of(judged: Sequence[Judged]) -> str:
    """All of it for people: a line for each capture, below it the first frames beyond, then the sum."""
    lines = []
    for each in judged:
        allowed = (
            ", ".join(f"{count} {kind}" for kind, count in sorted(each.allowed.items())) or "none allowed"
        )
        others = f"; {each.others} of others" if each.others else ""
        lines.append(
            f"{each.card}  {each.name}: {each.sent} frames in {each.seconds:.0f} s: {allowed}{others}"
        )
        lines += [f"  BEYOND {stray}" for stray in each.strays[:_SHOWN]]
        if each.beyond > _SHOWN:
            lines.append(f"  and {each.beyond - _SHOWN} more (--json has the first {KEPT})")
    frames, beyond = sum(each.sent for each in judged), sum(each.beyond for each in judged)
    lines.append(f"{frames} frames, {beyond or 'none'} beyond the allowed flows")
    return "\n".join(lines)
