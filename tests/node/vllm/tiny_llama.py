"""A Llama of 0.4 million random weights with a tokenizer of bytes: the same files whenever it is made.

As a hub has them: ``config.json``, ``tokenizer.json`` and its settings, and weights in two files of
safetensors with an index.  It proves the path from a bundle to an answer; the answer means nothing.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from tests.node.vllm.model_files import byte_tokenizer, write_safetensors

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, LAYERS, HEADS, KV_HEADS, HEAD, INNER = 128, 2, 4, 2, 32, 256
SPECIAL = ("<|pad|>", "<|bos|>", "<|eos|>")
VOCABULARY = 320  # the bytes and special tokens, filled up
CONTEXT = 1024
SEED = 20260101
_SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"
_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD,
    "vocab_size": VOCABULARY,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


def write_tiny_llama(folder: Path, context: int = CONTEXT) -> list[str]:
    """Write the model, for so many tokens; returns the names of its files."""
    folder.mkdir(parents=True)
    rest = {
        "config.json": {**CONFIG, "max_position_embeddings": context},
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        "tokenizer.json": byte_tokenizer(SPECIAL, VOCABULARY),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL[1],
            "eos_token": SPECIAL[2],
            "pad_token": SPECIAL[0],
            "model_max_length": context,
            "chat_template": _TEMPLATE,
        },
    }
    shapes = _shapes()
    half = len(shapes) // 2
    weight_map = {}
    draw = random.Random(SEED)  # noqa: S311 - the same each time
    for shard, part in zip(_SHARDS, (shapes[:half], shapes[half:]), strict=True):
        write_safetensors(folder / shard, part, draw)
        weight_map |= {name: shard for name, _ in part}
    rest[INDEX] = {"metadata": {}, "weight_map": weight_map}
    for name, values in rest.items():
        (folder / name).write_text(json.dumps(values, indent=1) + "\n")
    return sorted([*rest, *_SHARDS])


def _shapes() -> list[tuple[str, tuple[int, ...]]]:
    keys = KV_HEADS * HEAD
    matrices = {
        "self_attn.q_proj": (HEADS * HEAD, WIDTH),
        "self_attn.k_proj": (keys, WIDTH),
        "self_attn.v_proj": (keys, WIDTH),
        "self_attn.o_proj": (WIDTH, HEADS * HEAD),
        "mlp.gate_proj": (INNER, WIDTH),
        "mlp.up_proj": (INNER, WIDTH),
        "mlp.down_proj": (WIDTH, INNER),
        "input_layernorm": (WIDTH,),
        "post_attention_layernorm": (WIDTH,),
    }
    layers = [
        (f"model.layers.{layer}.{name}.weight", shape)
        for layer in range(LAYERS)
        for name, shape in matrices.items()
    ]
    ends = [("model.embed_tokens.weight", (VOCABULARY, WIDTH)), ("model.norm.weight", (WIDTH,))]
    return [*ends, *layers, ("lm_head.weight", (VOCABULARY, WIDTH))]
