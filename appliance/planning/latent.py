"""Decoders with latent attention: DeepSeek-V2 and V3 (and R1, which is V3).

Of each token the cache keeps one compressed vector and one part with the position, for all heads together;
under tensor parallelism every GPU keeps both whole.  From a certain layer on, experts.  Source: DeepSeek-V3
technical report, section 2.1.1; the modelling file of the repository; the counts agree with what the makers
publish.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.planning.decoder import ends, expert_layers, feed_forward
from appliance.planning.shapes import CacheLayers, ModelShape, TensorGroup, padded_vocabulary

if TYPE_CHECKING:
    from appliance.planning.config import Config

#: Model types as config.json has them.
LATENT: Final = ("deepseek_v2", "deepseek_v3")
_LAYER: Final = "model.layers.{layer}."


def latent(config: Config) -> ModelShape:
    """The shape that a config of one of ``LATENT`` describes.

    Raises:
        ModelMisdescribed: numbers are missing, impossible, or contradict each other.
    """
    kind = config.text("model_type") or ""
    hidden, layers = config.count("hidden_size"), config.count("num_hidden_layers")
    dense = config.count("first_k_dense_replace", 0, least=0)
    if dense > layers or config.count("moe_layer_freq", 1) != 1:
        raise config.wrong(
            "which layers have experts is not as worked out here",
            found=f"first_k_dense_replace {dense} of {layers} layers, or moe_layer_freq other than 1",
            wanted="experts in every layer from first_k_dense_replace on",
        )
    each, sparse = range(layers), range(dense, layers)
    inner, expert = config.count("intermediate_size"), config.count("moe_intermediate_size")
    experts, shared = config.count("n_routed_experts"), config.count("n_shared_experts", 0, least=0)
    names = (("gate_proj", "up_proj"), "down_proj")
    tensors = [
        *ends(config, hidden),
        *_attention(config, hidden, each),
        TensorGroup(_LAYER + "input_layernorm.weight", (hidden,), "small", "whole", each),
        TensorGroup(_LAYER + "post_attention_layernorm.weight", (hidden,), "small", "whole", each),
        *feed_forward(_LAYER + "mlp.", hidden, inner, range(dense)),
        *expert_layers(_LAYER + "mlp.", names, (experts, hidden, expert), sparse),
    ]
    if shared:
        tensors += feed_forward(_LAYER + "mlp.shared_experts.", hidden, shared * expert, sparse)
    if config.text("topk_method") == "noaux_tc":
        bias = _LAYER + "mlp.gate.e_score_correction_bias"
        tensors.append(TensorGroup(bias, (experts,), "small", "whole", sparse))
    rank, rotary = config.count("kv_lora_rank"), config.count("qk_rope_head_dim")
    notes = []
    if config.count("num_nextn_predict_layers", 0, least=0):
        notes.append(
            "the layers that predict further tokens (num_nextn_predict_layers) are not counted: "
            "engines load them for speculative decoding only"
        )
    return ModelShape(
        family="latent attention, mixture of experts",
        architecture=kind,
        tensors=tuple(group for group in tensors if group.layers is None or len(group.layers)),
        cache=(CacheLayers(layers, rank + rotary, 0, f"({rank} compressed + {rotary} position)"),),
        heads=config.count("num_attention_heads"),
        kv_heads=0,
        widths={
            "feed-forward width": inner,
            "experts' width": expert,
            **padded_vocabulary(config.count("vocab_size")),
        },
        context=config.count("max_position_embeddings"),
        layers=layers,
        notes=tuple(notes),
    )


def _attention(config: Config, hidden: int, layers: range) -> list[TensorGroup]:
    heads = config.count("num_attention_heads")
    rank, rotary = config.count("kv_lora_rank"), config.count("qk_rope_head_dim")
    plain, value = config.count("qk_nope_head_dim"), config.count("v_head_dim")
    query = heads * (plain + rotary)
    prefix = _LAYER + "self_attn."
    found = [
        TensorGroup(
            prefix + "kv_a_proj_with_mqa.weight", (rank + rotary, hidden), "matrix", "whole", layers
        ),
        TensorGroup(prefix + "kv_a_layernorm.weight", (rank,), "small", "whole", layers),
        TensorGroup(prefix + "kv_b_proj.weight", (heads * (plain + value), rank), layers=layers),
        TensorGroup(prefix + "o_proj.weight", (hidden, heads * value), layers=layers),
    ]
    if not config.has("q_lora_rank"):
        return [*found, TensorGroup(prefix + "q_proj.weight", (query, hidden), layers=layers)]
    low = config.count("q_lora_rank")
    return [
        *found,
        TensorGroup(prefix + "q_a_proj.weight", (low, hidden), "matrix", "whole", layers),
        TensorGroup(prefix + "q_a_layernorm.weight", (low,), "small", "whole", layers),
        TensorGroup(prefix + "q_b_proj.weight", (query, low), layers=layers),
    ]
