"""The key ``escrow`` of ``inventory.yml``: to whom the keys of drives are encrypted.

Recipients are those of age (the age specification, ``age-encryption.org/v1``, recipient type X25519):
what is encrypted to them stock ``age`` opens, without this program.  Why: docs/decisions/0053.
"""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from appliance.definition.escrow import Escrow

#: More is no longer a number of people that anybody keeps track of.
MOST_RECIPIENTS: Final = 16


def _recipient(value: object) -> str:
    """An age recipient, whose check digits are right."""
    import pyrage

    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 - pydantic collects ValueError
    if value.upper().startswith("AGE-SECRET-KEY-"):
        raise ValueError("this is a secret key: take it out, make another, and give age1… of that")
    try:
        return str(pyrage.x25519.Recipient.from_str(value))
    except pyrage.RecipientError:
        raise ValueError("no age recipient: age-keygen prints it, age1 and 58 letters and digits") from None


_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
_Recipient = Annotated[str, PlainValidator(_recipient), WithJsonSchema({"type": "string"})]


class EscrowKey(BaseModel):
    """``escrow: {recipients: {NAME: age1…}, threshold: 1}``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipients: Annotated[dict[_Name, _Recipient], Field(min_length=1, max_length=MOST_RECIPIENTS)]
    threshold: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.recipients.values())) < len(self.recipients):
            raise ValueError("two names have the same recipient: that is one key, and one person")
        if self.threshold > len(self.recipients):
            raise ValueError(
                f"{self.threshold} are needed and there are {len(self.recipients)}: nobody could open it"
            )
        return self

    def escrow(self) -> Escrow:
        """As the program uses it."""
        return Escrow(tuple(self.recipients.items()), self.threshold)
