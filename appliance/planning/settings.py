"""Settings of a plan: a small YAML file beside a bundle's definition, so that a plan can be made again.

.. code-block:: yaml

    format: 1
    gpu: h100-sxm
    gpus: 2
    sequences: 8
    context: 8192
    precision: {policy: clinical}

What is said on the command line goes before what is said here.  ``precision`` names a policy, or is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints, model_validator

from appliance.definition.document import read_document, validate_document
from appliance.definition.names import Format, Frozen
from appliance.errors import PlanInvalid
from appliance.planning.precision import PrecisionPolicy, find_policy

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9*.,_ -]+$", max_length=200)]
Number = Annotated[int, Field(ge=1, le=1 << 24)]
Bits = Annotated[int, Field(ge=1, le=32)]


class PolicySettings(Frozen):
    """A named policy, or the least bits of weights and cache with the reason for them."""

    policy: Name | None = None
    weight_bits: Bits | None = None
    cache_bits: Bits | None = None
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        own = (self.weight_bits, self.cache_bits, self.reason)
        if self.policy is not None and any(each is not None for each in own):
            raise ValueError("name a policy, or write one: not both")
        if self.policy is None and any(each is None for each in own):
            raise ValueError("a policy of your own has weight_bits, cache_bits and the reason for them")
        return self

    def resolved(self) -> PrecisionPolicy:
        """The policy that is meant.

        Raises:
            PlanInvalid: none has this name.
        """
        if self.policy is not None:
            return find_policy(self.policy)
        return PrecisionPolicy("settings", self.weight_bits or 0, self.cache_bits or 0, self.reason or "")


class PlanSettings(Frozen):
    """What a plan is made for.  Everything but ``format`` may be left out."""

    format: Format
    gpu: Name | None = None
    gpus: Number | None = None
    tensor_parallel: Number | None = None
    mig: Name | None = None
    slice: Name | None = None
    sequences: Number | None = None
    context: Number | None = None
    weights: Name | None = None
    cache: Name | None = None
    precision: PolicySettings | None = None


def read_settings(data: bytes, path: Path | str) -> PlanSettings:
    """Settings as somebody wrote them.

    Raises:
        PlanInvalid: with file, line and column of what is wrong.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as fault:
        raise PlanInvalid(f"{path} is not UTF-8 text", found=str(fault)) from fault
    return validate_document(read_document(text, path, PlanInvalid), PlanSettings, PlanInvalid)
