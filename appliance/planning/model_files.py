"""A model as it lies on a disk: read its description and the headers of its weights, and nothing else.

What may be given: a model's folder, its ``config.json``, one of its safetensors files, or a GGUF file; also
within a bundle, where long files lie in slices of which the first holds the header.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.errors import FormatRefused, ModelMisdescribed, PlanInvalid
from appliance.planning.architectures import read_config, shape_of
from appliance.planning.description import check_described, check_numbers, loaded
from appliance.planning.gguf_shape import gguf_shape
from appliance.planning.precision import find_precision
from appliance.planning.quantisation import stated_cache_bits, stated_precision
from appliance.planning.weights import Weights, computed, measured
from appliance.sources.gguf_header import read_gguf_header
from appliance.sources.model_formats import needs
from appliance.sources.safetensors import Stored, read_header

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from appliance.planning.config import Config
    from appliance.planning.shapes import ModelShape

CONFIG: Final = "config.json"
_BESIDE: Final = "hf_quant_config.json"
_INDEX: Final = "model.safetensors.index.json"
_SLICE: Final = re.compile(r"(?P<name>.+)\.slice-(?P<number>[0-9]{4})")
_MAX_JSON: Final = 64 << 20  # bytes of a description or an index


@dataclass(frozen=True)
class Model:
    """A model to plan for.

    ``weights`` are those its files hold; None where only a description is at hand.  ``stated`` is the
    precision the description names, None where it names none; ``cache_bits`` those of the cache that it has
    an engine keep, None where that is not its to say.
    """

    path: Path
    shape: ModelShape
    weights: Weights | None
    stated: str | None
    gguf: bool
    cache_bits: int | None = None

    def weights_in(self, precision: str | None) -> Weights:
        """Its weights as they are, or computed for this precision.

        Raises:
            PlanInvalid: there are no files, and neither description nor caller names a precision.
        """
        if precision is None and self.weights is not None:
            return self.weights
        if self.gguf:
            raise PlanInvalid(
                "what a GGUF file holds cannot be asked for in another precision",
                found=f"--weights {precision}",
                wanted="the file's own",
                hint="leave --weights out, or give the file that was quantised as you want it",
            )
        if (name := precision or self.stated) is None:
            raise PlanInvalid(
                f"{self.path} does not say in which precision its weights are",
                found="no torch_dtype, dtype or known quantization_config",
                wanted="a precision",
                hint="say it: --weights bf16",
            )
        return computed(self.shape, find_precision(name))


def open_model(path: Path) -> Model:
    """Read what is known of a model.

    Raises:
        ModelMisdescribed: the description is missing or wrong, or is not that of the weights.
        ArchitectureUnsupported: its memory has not been worked out here.
        FormatRefused: its weights are in a format that can run code.
    """
    try:
        if path.is_dir():
            return _of_folder(path)
        if path.name == CONFIG:
            return _described(path, None)
        name = _SLICE.fullmatch(path.name)
        suffix = (name["name"] if name else path.name).rpartition(".")[2]
        if suffix == "gguf":
            return _of_gguf(path.with_name(name["name"]) if name else path)
        if suffix == "safetensors":
            return _of_folder(path.parent)
        if suffix == "json":
            return _described(path, None)
    except OSError as fault:
        raise ModelMisdescribed(
            f"{path} cannot be read", found=str(fault), wanted="a model's folder or file"
        ) from fault
    if needs(path.name) == "pickle":
        raise _pickle([path.name])
    raise ModelMisdescribed(
        f"{path} is no model",
        found=path.name,
        wanted="a folder with config.json, a config.json, a .safetensors or a .gguf file",
    )


def _of_folder(folder: Path) -> Model:
    names = {
        found["name"] if (found := _SLICE.fullmatch(each.name)) else each.name for each in folder.iterdir()
    }
    weights = sorted(name for name in names if name.endswith(".safetensors"))
    ggufs = sorted(name for name in names if name.endswith(".gguf"))
    if not weights and ggufs:
        if len(ggufs) > 1:
            raise ModelMisdescribed(
                f"{folder} holds several GGUF files",
                found=", ".join(ggufs[:8]),
                wanted="the one that is to be served",
                hint=f"give the file: {folder / ggufs[0]}",
            )
        return _of_gguf(folder / ggufs[0])
    if CONFIG not in names:
        raise ModelMisdescribed(
            f"{folder} has no {CONFIG}: nothing says how the model is built",
            found=", ".join(sorted(names)[:8]) or "an empty folder",
            wanted=CONFIG,
            hint="give the model's folder, its config.json, or one GGUF file",
        )
    if not weights and (pickles := sorted(name for name in names if needs(name) == "pickle")):
        raise _pickle(pickles)
    _check_whole(folder, set(weights))
    tensors: list[Stored] = []
    for name in weights:
        size, first = _parts(folder / name)
        try:
            with first.open("rb") as opened:
                found_here = read_header(opened, size)
        except ValueError as fault:
            raise ModelMisdescribed(
                f"{folder / name} {fault}",
                found=f"{size:,} bytes of another form",
                wanted="a whole safetensors file",
                hint="fetch the file again; `appliance verify` says if it is damaged",
            ) from fault
        check_numbers(found_here, folder / name)
        tensors += found_here
    return _described(folder / CONFIG, tensors if weights else None)


def _described(path: Path, tensors: list[Stored] | None) -> Model:
    """A model by its config.json, and the tensors of its files if there are any."""
    config = read_config(_text(path), path)
    shape = shape_of(config)
    stated, packed_bits = stated_precision(config)
    bits = stated_cache_bits(config, _beside(path))
    weights = None
    if tensors is not None:
        further = config.count("num_nextn_predict_layers", 0, least=0)
        kept = loaded(shape, tensors, further)
        by_name = {each.name: each for each in kept}
        if len(by_name) != len(kept):
            raise config.wrong(
                "the files hold a tensor twice", found="one name in two files", wanted="once"
            )
        quantised = config.below("quantization_config") is not None
        check_described(shape, by_name, path, quantised=quantised)
        source = f"the headers of {path.parent}/*.safetensors"
        weights = measured(shape, kept, packed_bits=packed_bits, source=source, parameters=shape.parameters)
    return Model(path, shape, weights, stated, gguf=False, cache_bits=bits)


def _beside(path: Path) -> Config | None:
    """What modelopt wrote of quantisation beside the description; None where it wrote nothing."""
    beside = path.with_name(_BESIDE)
    return read_config(_text(beside), beside) if path.name == CONFIG and beside.exists() else None


def _of_gguf(path: Path) -> Model:
    size, first = _parts(path)
    try:
        with first.open("rb") as opened:
            header = read_gguf_header(opened, size)
    except ValueError as fault:
        raise ModelMisdescribed(
            f"{path} {fault}",
            found=f"{size:,} bytes of another form",
            wanted="a whole GGUF file",
            hint="fetch the file again",
        ) from fault
    shape = gguf_shape(header, path)
    by_name = {each.name: each for each in header.tensors}
    check_described(shape, by_name, path, quantised=False)
    numbers = sum(math.prod(each.shape) for each in header.tensors if isinstance(each.shape, tuple))
    source = f"the header of {path}"
    weights = measured(shape, header.tensors, packed_bits=8, source=source, parameters=numbers)
    return Model(path, shape, weights, None, gguf=True)


def _check_whole(folder: Path, weights: set[str]) -> None:
    """No file that the index names is missing: what is not there would take no memory in the plan."""
    index = folder / _INDEX
    if not weights or not index.is_file():
        return
    try:
        named = json.loads(_text(index))["weight_map"].values()
        missing = sorted({str(name) for name in named} - weights)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as fault:
        raise ModelMisdescribed(
            f"{index} is no index of weights", found=str(fault), wanted="an object with weight_map"
        ) from fault
    if missing:
        raise ModelMisdescribed(
            f"{folder} lacks weights that its index names",
            found=f"{len(weights)} files, without {', '.join(missing[:4])}",
            wanted=f"{len(weights | set(missing))} files",
            hint="fetch the model again, or give its config.json alone: then weights are computed",
        )


def _parts(path: Path) -> tuple[int, Path]:
    """The size of a file and where it begins: itself, or its slices in a bundle."""
    if path.is_file():
        return path.stat().st_size, path
    slices = sorted(path.parent.glob(f"{path.name}.slice-[0-9][0-9][0-9][0-9]"))
    numbers = [int(each.name[-4:]) for each in slices]
    if not slices or numbers != list(range(len(slices))):
        raise ModelMisdescribed(
            f"{path} is not whole",
            found=", ".join(each.name for each in slices) or "nothing",
            wanted="the file, or all its slices from 0000 on",
        )
    return sum(each.stat().st_size for each in slices), slices[0]


def _text(path: Path) -> bytes:
    if not path.is_file():  # a pipe would be waited for
        raise ModelMisdescribed(
            f"{path} is no file", found="something else, or nothing", wanted="a JSON file"
        )
    if (size := path.stat().st_size) > _MAX_JSON:
        raise ModelMisdescribed(
            f"{path} is too long for JSON that describes a model",
            found=f"{size:,} bytes",
            wanted=f"at most {_MAX_JSON:,} bytes",
        )
    return path.read_bytes()


def _pickle(names: Iterable[str]) -> FormatRefused:
    return FormatRefused(
        "these weights can run code when they are loaded, and are not opened",
        found=", ".join(list(names)[:4]),
        wanted="safetensors or GGUF",
        hint="take a revision of the model that has safetensors, or give its config.json alone",
    )
