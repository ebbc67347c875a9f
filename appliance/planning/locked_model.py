"""Whether a model that was locked is what its description says: asked while it can still be replaced.

An engine finds out when it starts, on the node, after everything was changed.  What is compared is what
``open_model`` compares: names and shapes in the headers of the weights with what the description makes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from appliance.definition.engines import is_index, shards_of
from appliance.errors import ArchitectureUnsupported, ModelMisdescribed
from appliance.planning.model_files import open_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.definition.bundle_definition import ReadDefinition
    from appliance.definition.lock import Artefact
    from appliance.sources.store import Store


def check_locked_model(read: ReadDefinition, model: Sequence[Artefact], store: Store) -> str:
    """Compare description and weights of the model that is to be served.

    Args:
        read: the definition.
        model: the model's artefacts, which are in the store.
        store: where they are.

    Returns:
        Why nothing was compared; empty if it was.

    Raises:
        ModelMisdescribed: the description is missing or wrong, or is not that of the weights.
    """
    served, name = read.definition.inference.file, read.definition.inference.model
    folder = PurePosixPath(served).parent
    beside = {
        PurePosixPath(each.path).name: store.path(each.sha256).resolve()
        for each in model
        if PurePosixPath(each.path).parent == folder
    }
    file = PurePosixPath(served).name
    weights = shards_of(beside[file].read_bytes()) if is_index(file) else {file}
    if not weights <= beside.keys():
        return f"component {name}: weights in other folders than their index are not compared"
    with tempfile.TemporaryDirectory(prefix="appliance-model-") as place:
        for each, path in beside.items():
            # Weights that are not served may be another copy of the same: they are not this model's.
            if each in weights or not each.endswith((".safetensors", ".gguf")):
                (Path(place) / each).symlink_to(path)
        try:
            open_model(Path(place) if is_index(file) else Path(place) / file)
        except ArchitectureUnsupported as fault:
            return f"component {name}: description and weights are not compared: {fault.message}"
        except ModelMisdescribed as fault:
            raise ModelMisdescribed(
                # whoever reads it knows the component, and not the folder made here
                fault.message.replace(place, name),
                found=fault.found,
                wanted=fault.wanted,
                hint="take description and weights of one revision of the model, both whole",
                where=read.document.where(("inference", "model")),
            ) from None
    return ""
