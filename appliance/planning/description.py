"""Whether a model's description and its weights are about the same model.

Every tensor that the description implies must be in the files with that shape, and no layer beyond those
it counts.  Who compares them finds a config.json that belongs to another model, or was changed so that a
model seems to fit.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from appliance.errors import ModelMisdescribed
from appliance.planning.weights import DTYPE_BITS, PACKED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from appliance.planning.shapes import ModelShape
    from appliance.sources.safetensors import Stored

_LAYER: Final = re.compile(r"(?:^|\.)(?:layers|blk)\.([0-9]{1,6})\.")
_DO: Final = "fetch the model again from its makers; a description and weights belong together"


def check_numbers(tensors: Sequence[Stored], path: Path | str) -> None:
    """Each tensor of a safetensors header takes as many bytes as its type and shape need.

    Raises:
        ModelMisdescribed: one takes others, or is of an unknown type.
    """
    for each in tensors:
        shape, dtype = each.shape, each.dtype
        if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
            raise _lying(path, f"{each.name!a} has no shape", repr(shape), "a list of whole numbers")
        if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
            raise _lying(path, f"{each.name!a} is of no known type", repr(dtype), ", ".join(DTYPE_BITS))
        needed = -(-math.prod(shape) * DTYPE_BITS[dtype] // 8)
        if needed != each.size:
            raise _lying(
                path,
                f"{each.name!a} does not take the bytes its shape needs",
                f"{each.size:,} bytes",
                f"{needed:,} bytes: {dtype}, {shape}",
            )


def check_described(
    shape: ModelShape, tensors: Mapping[str, Stored], path: Path | str, *, quantised: bool
) -> None:
    """The files hold what the description says, and the description says what the files hold.

    Args:
        shape: the model by its description.
        tensors: what the headers say, by name.
        path: the description's name in messages.
        quantised: whether matrices may be packed, under other names and shapes of the same module.

    Raises:
        ModelMisdescribed: at the first difference, by name of the tensor.
    """
    modules = {name.rpartition(".")[0] for name in tensors} if quantised else set()
    for name, wanted in _implied(shape):
        found = tensors.get(name)
        module = name.rpartition(".")[0]
        if found is None:
            if module not in modules:
                raise _lying(
                    path,
                    f"the weights have no {name!a}, which the description implies",
                    f"{len(tensors):,} other tensors",
                    f"{name!a} of shape {list(wanted)}",
                )
            _check_scales(tensors.get(f"{module}.scales"), wanted[0], path)
            continue
        if found.dtype in PACKED:
            continue
        if list(found.shape) != list(wanted):  # type: ignore[call-overload]  # a list: check_numbers
            raise _lying(
                path,
                f"the description gives {name!a} another shape than it has",
                f"{found.shape} in the weights",
                f"{list(wanted)} by the description",
            )
    for name in tensors:
        number = _LAYER.search(name)
        if number and ".encoder." not in name and int(number[1]) >= shape.layers:
            raise _lying(
                path,
                "the weights have more layers than the description says",
                f"{name!a}",
                f"layers 0 to {shape.layers - 1}",
            )


def _check_scales(scales: Stored | None, outputs: int, path: Path | str) -> None:
    """Numbers are packed as the method likes, but AWQ and GPTQ keep a column of scales for each output."""
    if scales is not None and list(scales.shape)[-1:] != [outputs]:  # type: ignore[call-overload]
        raise _lying(
            path,
            f"the description gives {scales.name!a} another shape than it has",
            f"{scales.shape} in the weights",
            f"[…, {outputs}] by the description",
        )


def loaded(shape: ModelShape, tensors: Sequence[Stored], further: int) -> tuple[Stored, ...]:
    """The tensors an engine loads: without the ``further`` layers that predict more tokens."""
    skipped = range(shape.layers, shape.layers + further)
    kept = []
    for each in tensors:
        number = _LAYER.search(each.name)
        if number is None or int(number[1]) not in skipped:
            kept.append(each)
    return tuple(kept)


def _implied(shape: ModelShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    for group in shape.tensors:
        for name in group.names():
            yield name, group.shape


def _lying(path: Path | str, message: str, found: str, wanted: str) -> ModelMisdescribed:
    return ModelMisdescribed(f"{path}: {message}", found=found, wanted=wanted, hint=_DO)
