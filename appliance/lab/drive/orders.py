"""Faults to order of a running drive: when its power fails, and how slow it is."""

from __future__ import annotations

from dataclasses import dataclass


class PowerLost(Exception):
    """The drive lost its power; whoever waits for an answer waits in vain."""


@dataclass
class Orders:
    """What a drive has been ordered to do wrong from now on.

    Attributes:
        cut_before: methods from now that are still carried out; power fails when the next one comes.
        cut_after: methods from now that are carried out, the last without an answer: power fails instead.
        delay: seconds that each command takes longer.
    """

    cut_before: int | None = None
    cut_after: int | None = None
    delay: float = 0.0

    def before_method(self) -> None:
        """A method has come.

        Raises:
            PowerLost: this is where it was ordered.
        """
        if self.cut_before is not None:
            self.cut_before -= 1
            if self.cut_before < 0:
                self.cut_before = None
                raise PowerLost

    def after_method(self) -> None:
        """A method has been carried out and its effects are on disk.

        Raises:
            PowerLost: this is where it was ordered.
        """
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after <= 0:
                self.cut_after = None
                raise PowerLost
