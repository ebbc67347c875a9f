"""From a model's description to its shape.  What nobody has worked out is refused, not guessed.

Linear attention, state spaces, compressed caches: models that keep something else than keys and values
would look plausible in the usual formula, and be wrong by a factor.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import ArchitectureUnsupported, ModelMisdescribed
from appliance.planning.config import Config
from appliance.planning.decoder import DECODERS, decoder
from appliance.planning.latent import LATENT, latent
from appliance.planning.speech import SPEECH, speech

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.planning.shapes import ModelShape

_READERS: Final[dict[str, Callable[[Config], ModelShape]]] = {
    **dict.fromkeys(DECODERS, decoder),
    **dict.fromkeys(LATENT, latent),
    **dict.fromkeys(SPEECH, speech),
}


def read_config(data: bytes, path: Path | str) -> Config:
    """The keys of a ``config.json``.

    Raises:
        ModelMisdescribed: it is no JSON object, or says a key twice.
    """
    try:
        values = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as fault:
        raise _no_config(path, f"no JSON: {fault}") from fault
    if not isinstance(values, dict):
        raise _no_config(path, f"JSON, but a {type(values).__name__}")
    return Config(values, path)


def shape_of(config: Config) -> ModelShape:
    """The shape that a description gives.

    Raises:
        ArchitectureUnsupported: models of this type have not been worked out here.
        ModelMisdescribed: the description is missing something, or contradicts itself.
    """
    kind = config.text("model_type")
    if kind is None:
        raise config.wrong("model_type is missing", found="nothing", wanted="the type of the model")
    if kind not in _READERS:
        raise ArchitectureUnsupported(
            f"{config.path}: what models of this type keep in memory has not been worked out here",
            found=kind,
            wanted=f"one of: {', '.join(_READERS)}",
            hint="measure it: start the engine on the node and read what it logs of its cache",
        )
    return _READERS[kind](config)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a key is written twice")
    return found


def _no_config(path: Path | str, found: str) -> ModelMisdescribed:
    return ModelMisdescribed(
        f"{path} does not describe a model",
        found=found,
        wanted="a JSON object, as config.json of a model repository is",
        hint="give the model's folder, its config.json, or a GGUF file",
    )
