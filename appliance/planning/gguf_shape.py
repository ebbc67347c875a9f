"""The shape of a model in a GGUF file: what its cache keeps, and what its tensors must look like.

llama.cpp keeps keys and values of every token for the architectures named here; windows are ignored, so
that the sum is never too small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.errors import ArchitectureUnsupported
from appliance.planning.config import Config
from appliance.planning.shapes import CacheLayers, ModelShape, TensorGroup

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.sources.gguf_header import GgufHeader

#: Architectures as general.architecture has them; Mistral and Mixtral call themselves llama.
GGUF_DECODERS: Final = ("llama", "qwen2", "qwen3", "qwen3moe", "phi3")
_EMBEDDING: Final = "token_embd.weight"


def gguf_shape(header: GgufHeader, path: Path) -> ModelShape:
    """The shape that a GGUF header describes.

    Raises:
        ArchitectureUnsupported: models of this kind have not been worked out here.
        ModelMisdescribed: numbers are missing, impossible, or contradict each other.
    """
    config = Config(header.metadata, path)
    kind = config.text("general.architecture")
    if kind is None:
        raise config.wrong("general.architecture is missing", found="nothing", wanted="the kind of model")
    if kind not in GGUF_DECODERS:
        raise ArchitectureUnsupported(
            f"{path}: what models of this kind keep in memory has not been worked out here",
            found=kind,
            wanted=f"one of: {', '.join(GGUF_DECODERS)}",
            hint="measure it: start the engine on the node and read what it logs of its cache",
        )
    hidden, layers = config.count(f"{kind}.embedding_length"), config.count(f"{kind}.block_count")
    heads = config.count(f"{kind}.attention.head_count")
    kv_heads = config.count(f"{kind}.attention.head_count_kv", heads)
    config.divided("attention.head_count", "attention.head_count_kv", (heads, kv_heads))
    width = (
        config.count(f"{kind}.attention.key_length")
        if config.has(f"{kind}.attention.key_length")
        else config.divided("embedding_length", "attention.head_count", (hidden, heads))
    )
    value = config.count(f"{kind}.attention.value_length", width)
    each = range(layers)
    tensors = [
        TensorGroup("blk.{layer}.attn_output.weight", (hidden, heads * value), layers=each),
    ]
    if kind == "phi3":
        rows = heads * width + kv_heads * (width + value)
        tensors.append(TensorGroup("blk.{layer}.attn_qkv.weight", (rows, hidden), layers=each))
    else:
        tensors += [
            TensorGroup("blk.{layer}.attn_q.weight", (heads * width, hidden), layers=each),
            TensorGroup("blk.{layer}.attn_k.weight", (kv_heads * width, hidden), split="kv", layers=each),
            TensorGroup("blk.{layer}.attn_v.weight", (kv_heads * value, hidden), split="kv", layers=each),
        ]
    vocabulary = next((shape[0] for shape in _shapes(header) if len(shape) == 2), 0)  # noqa: PLR2004
    if vocabulary:
        tensors.append(TensorGroup(_EMBEDDING, (vocabulary, hidden), "embedding"))
    says = f"{kv_heads} heads * ({width} key + {value} value)"
    return ModelShape(
        family="decoder in GGUF",
        architecture=kind,
        tensors=tuple(tensors),
        cache=(CacheLayers(layers, kv_heads * (width + value), kv_heads, says),),
        heads=heads,
        kv_heads=kv_heads,
        widths={},
        context=config.count(f"{kind}.context_length"),
        layers=layers,
    )


def _shapes(header: GgufHeader) -> list[tuple[int, ...]]:
    return [
        each.shape for each in header.tensors if each.name == _EMBEDDING and isinstance(each.shape, tuple)
    ]
