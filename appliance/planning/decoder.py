"""Decoders of the Llama kind: Llama, Mistral, Mixtral, Qwen2, Qwen3 and Qwen3 MoE, Phi-3.

What they share: norms without bias, gated feed-forward (three matrices), keys and values for groups of
heads (as many as heads: multi-head; one: multi-query).  What differs: which projections have a bias, norms
of heads, experts, windows.  Sources: the modelling files of the transformers library; the counts agree
with the totals the makers publish (tests/unit/planning/test_public_models.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.planning.shapes import CacheLayers, ModelShape, TensorGroup, padded_vocabulary

if TYPE_CHECKING:
    from appliance.planning.config import Config

#: Model types as config.json has them.
DECODERS: Final = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "phi3")
_LAYER: Final = "model.layers.{layer}."


def decoder(config: Config) -> ModelShape:
    """The shape that a config of one of ``DECODERS`` describes.

    Raises:
        ModelMisdescribed: numbers are missing, impossible, or contradict each other.
    """
    kind = config.text("model_type") or ""
    hidden, layers = config.count("hidden_size"), config.count("num_hidden_layers")
    heads = config.count("num_attention_heads")
    kv_heads = config.count("num_key_value_heads", heads)
    config.divided("num_attention_heads", "num_key_value_heads", (heads, kv_heads))
    width = (
        config.count("head_dim")
        if config.has("head_dim")
        else config.divided("hidden_size", "num_attention_heads", (hidden, heads))
    )
    each = range(layers)
    tensors = [
        *ends(config, hidden),
        *_attention(config, kind, (hidden, heads, kv_heads, width), each),
        TensorGroup(_LAYER + "input_layernorm.weight", (hidden,), "small", "whole", each),
        TensorGroup(_LAYER + "post_attention_layernorm.weight", (hidden,), "small", "whole", each),
    ]
    widths = {}
    match kind:
        case "mixtral":
            experts, inner = config.count("num_local_experts"), config.count("intermediate_size")
            block = _LAYER + "block_sparse_moe."
            names = (("w1", "w3"), "w2")
            tensors += expert_layers(block, names, (experts, hidden, inner), each)
        case "qwen3_moe":
            experts, inner = config.count("num_experts"), config.count("moe_intermediate_size")
            if config.count("decoder_sparse_step", 1) != 1 or config.filled("mlp_only_layers"):
                raise config.wrong(
                    "some layers have no experts; this mixture has not been worked out",
                    found="decoder_sparse_step or mlp_only_layers",
                    wanted="experts in every layer",
                )
            names = (("gate_proj", "up_proj"), "down_proj")
            tensors += expert_layers(_LAYER + "mlp.", names, (experts, hidden, inner), each)
        case _:
            inner = config.count("intermediate_size")
            bias = config.flag("mlp_bias", default=False)
            tensors += feed_forward(_LAYER + "mlp.", hidden, inner, each, fused=kind == "phi3", bias=bias)
    widths["feed-forward width"] = inner
    widths.update(padded_vocabulary(config.count("vocab_size")))
    return ModelShape(
        family=_family(heads, kv_heads, kind),
        architecture=kind,
        tensors=tuple(tensors),
        cache=_cache(config, kind, layers, kv_heads, width),
        heads=heads,
        kv_heads=kv_heads,
        widths=widths,
        context=config.count("max_position_embeddings"),
        layers=layers,
    )


def ends(config: Config, hidden: int) -> list[TensorGroup]:
    """Embedding, last norm and output head; a tied head is the embedding again and stored once."""
    vocabulary = config.count("vocab_size")
    found = [
        TensorGroup("model.embed_tokens.weight", (vocabulary, hidden), "embedding"),
        TensorGroup("model.norm.weight", (hidden,), "small", "whole"),
    ]
    if not config.flag("tie_word_embeddings", default=False):
        found.append(TensorGroup("lm_head.weight", (vocabulary, hidden), "embedding"))
    return found


def feed_forward(
    prefix: str, hidden: int, inner: int, layers: range, *, fused: bool = False, bias: bool = False
) -> list[TensorGroup]:
    """A gated feed-forward block: gate and up (``fused``: as one matrix), and down."""
    entering = {"gate_up_proj": 2 * inner} if fused else {"gate_proj": inner, "up_proj": inner}
    found = [
        TensorGroup(f"{prefix}{name}.weight", (rows, hidden), layers=layers)
        for name, rows in entering.items()
    ]
    found.append(TensorGroup(f"{prefix}down_proj.weight", (hidden, inner), layers=layers))
    if bias:
        found += [
            TensorGroup(f"{prefix}{name}.bias", (rows,), "small", layers=layers)
            for name, rows in entering.items()
        ]
        found.append(TensorGroup(f"{prefix}down_proj.bias", (hidden,), "small", "whole", layers))
    return found


def expert_layers(
    prefix: str,
    names: tuple[tuple[str, str], str],
    sizes: tuple[int, int, int],
    layers: range,
) -> list[TensorGroup]:
    """Experts and the router that chooses among them; every expert is resident, whatever is chosen."""
    (gate, up), down = names
    experts, hidden, inner = sizes
    return [
        TensorGroup(f"{prefix}gate.weight", (experts, hidden), "small", "whole", layers),
        *(
            TensorGroup(f"{prefix}experts.{{expert}}.{name}.weight", shape, layers=layers, experts=experts)
            for name, shape in ((gate, (inner, hidden)), (up, (inner, hidden)), (down, (hidden, inner)))
        ),
    ]


def _attention(
    config: Config, kind: str, sizes: tuple[int, int, int, int], layers: range
) -> list[TensorGroup]:
    hidden, heads, kv_heads, width = sizes
    prefix = _LAYER + "self_attn."
    query, keys = heads * width, kv_heads * width
    out = TensorGroup(prefix + "o_proj.weight", (hidden, query), layers=layers)
    if kind == "phi3":
        return [TensorGroup(prefix + "qkv_proj.weight", (query + 2 * keys, hidden), layers=layers), out]
    found = [
        TensorGroup(prefix + "q_proj.weight", (query, hidden), layers=layers),
        TensorGroup(prefix + "k_proj.weight", (keys, hidden), split="kv", layers=layers),
        TensorGroup(prefix + "v_proj.weight", (keys, hidden), split="kv", layers=layers),
        out,
    ]
    everywhere = config.flag("attention_bias", default=False)
    if everywhere or kind == "qwen2":
        found += [
            TensorGroup(prefix + "q_proj.bias", (query,), "small", layers=layers),
            TensorGroup(prefix + "k_proj.bias", (keys,), "small", "kv", layers),
            TensorGroup(prefix + "v_proj.bias", (keys,), "small", "kv", layers),
        ]
    if everywhere and kind != "qwen2":
        found.append(TensorGroup(prefix + "o_proj.bias", (hidden,), "small", "whole", layers))
    if kind in {"qwen3", "qwen3_moe"}:
        found += [
            TensorGroup(f"{prefix}{name}.weight", (width,), "small", "whole", layers)
            for name in ("q_norm", "k_norm")
        ]
    return found


def _cache(config: Config, kind: str, layers: int, kv_heads: int, width: int) -> tuple[CacheLayers, ...]:
    """Keys and values of each token; of layers with a window, only the last tokens'."""
    elements = 2 * kv_heads * width
    says = f"2 (keys, values) * {kv_heads} heads * {width}"
    window = config.count("sliding_window") if config.has("sliding_window") else None
    sliding = _sliding(config, kind, layers) if window else 0
    parts = ((layers - sliding, None), (sliding, window))
    return tuple(CacheLayers(number, elements, kv_heads, says, each) for number, each in parts if number)


def _sliding(config: Config, kind: str, layers: int) -> int:
    """How many layers look through the window.  Qwen's configs name one that is not in use."""
    if (kinds := config.texts("layer_types")) is not None:
        if len(kinds) != layers or set(kinds) - {"full_attention", "sliding_attention"}:
            raise config.wrong(
                "layer_types does not describe the layers",
                found=f"{len(kinds)} entries, {', '.join(sorted(set(kinds)))}",
                wanted=f"{layers} entries, each full_attention or sliding_attention",
            )
        return kinds.count("sliding_attention")
    if kind.startswith("qwen"):
        if not config.flag("use_sliding_window", default=False):
            return 0
        return max(0, layers - config.count("max_window_layers", layers, least=0))
    return layers


def _family(heads: int, kv_heads: int, kind: str) -> str:
    attention = {heads: "multi-head", 1: "multi-query"}.get(kv_heads, "grouped-query")
    experts = ", mixture of experts" if kind in {"mixtral", "qwen3_moe"} else ""
    return f"{attention} attention{experts}"
