"""Components of kind ``tiny-gguf``: one model file, made from a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.definition.components import MODEL_FILE
from appliance.errors import DefinitionInvalid
from appliance.sources.kinds import Source
from appliance.sources.tiny_gguf import GENERATOR, generate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.definition.components import TinyGguf
    from appliance.definition.lock import Artefact
    from appliance.sources.kinds import Where


class TinyModel(Source):
    """A generated model."""

    def resolve(self, spec: TinyGguf, where: Where) -> list[Artefact]:
        """The model.

        Raises:
            DefinitionInvalid: no model can say this sentence.
        """
        try:
            data = generate(spec.sentence)
        except DefinitionInvalid as fault:
            fault.where = where(("sentence",))
            raise
        given = {"sentence": spec.sentence}
        return [self.keep(MODEL_FILE, data, generator=GENERATOR, licence=spec.licence, given=given)]

    def fetch(self, artefacts: Sequence[Artefact]) -> None:
        """Make the model again, if the store has lost it."""
        for artefact in self.missing(artefacts):
            self.keep_again(artefact, generate(artefact.origin["sentence"]))
