"""What a description says of quantisation: of the matrices, and of the cache of keys and values.

The cache is the part that nobody asks for: left to itself vLLM keeps it as the model's own description
says (its ``vllm/utils/torch_utils.py``, ``resolve_kv_cache_dtype_string``, and the attention layer, which
takes any ``kv_cache_scheme`` for 8 bits).  So weights of 16 bits may come with a cache of 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.planning.config import Config

#: Bits of packed numbers where a method does not say them: what AWQ and GPTQ usually have.
_USUAL: Final = 4
_CACHE: Final = 8
#: Methods whose matrices are always of 8 bits.
_FLOAT_8: Final = frozenset({"fp8", "fbgemm_fp8"})
#: Methods of packed integers.
_INTEGERS: Final = frozenset({"awq", "gptq"})
_KINDS: Final[Mapping[tuple[str | None, int], str]] = {
    ("float", 8): "fp8",
    ("int", 8): "int8",
    ("int", 4): "int4",
}


def stated_precision(config: Config) -> tuple[str | None, int]:
    """The precision that a description names, and the bits of packed numbers.

    Raises:
        ModelMisdescribed: what it says of quantisation is of another form.
    """
    quantised = config.below("quantization_config")
    kinds = [] if quantised is None else _kinds(quantised)
    if not kinds:
        return config.text("torch_dtype") or config.text("dtype"), 8
    named = {_KINDS.get(kind) for kind in kinds}
    return named.pop() if len(named) == 1 else None, min(bits for _, bits in kinds)


def stated_cache_bits(config: Config, beside: Config | None) -> int | None:
    """Bits of the cache that an engine keeps for this description; None where it says nothing of it.

    Args:
        config: the description.
        beside: what modelopt wrote into a file of its own, which is read where ``config`` has nothing.

    Raises:
        ModelMisdescribed: it is of another form, or of a precision that has not been worked out here.
    """
    quantised = config.below("quantization_config") or beside
    if quantised is None:
        return None
    for place in (quantised.below("quantization"), quantised):
        if place is None:
            continue
        scheme = place.below("kv_cache_scheme") if place.has("kv_cache_scheme") else None
        if scheme is not None:
            if (bits := scheme.count("num_bits")) != _CACHE:
                raise scheme.wrong(
                    "num_bits: a cache of this precision has not been worked out here",
                    found=str(bits),
                    wanted=str(_CACHE),
                )
            return _CACHE
        if (name := place.text("kv_cache_quant_algo")) is not None:
            if name.upper() != "FP8":
                raise place.wrong(
                    "kv_cache_quant_algo: a cache of this precision has not been worked out here",
                    found=name,
                    wanted="FP8",
                )
            return _CACHE
    return None


def _kinds(quantised: Config) -> list[tuple[str | None, int]]:
    """Kind and bits of quantised matrices; a kind without a name of ours is None; none: none are."""
    method = quantised.text("quant_method") or ""
    if method == "compressed-tensors":
        return _groups(quantised)
    if method.startswith("modelopt"):
        float_8 = (quantised.text("quant_algo") or "").upper() == "FP8"
        return [("float", 8) if float_8 else (None, _USUAL)]
    if method == "bitsandbytes":
        return [(None, 8 if quantised.flag("load_in_8bit", default=False) else _USUAL)]
    if method in _FLOAT_8:
        return [("float", 8)]
    return [("int" if method in _INTEGERS else None, quantised.count("bits", _USUAL))]


def _groups(quantised: Config) -> list[tuple[str | None, int]]:
    """Kind and bits of each group of matrices whose weights are quantised."""
    groups = quantised.below("config_groups")
    found = []
    for name in groups.keys() if groups else ():
        group = groups.below(name) if groups else None
        weights = group.below("weights") if group else None
        if weights is not None:
            found.append((weights.text("type"), weights.count("num_bits")))
    return found
