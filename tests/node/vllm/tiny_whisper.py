"""A Whisper of some 0.4 million random weights, hearing and writing: the same files whenever it is made.

As a hub has them, with one file of weights and ``preprocessor_config.json``, which says how sound becomes
what the model hears.  The tokenizer knows Whisper's own special tokens, as the engine asks it which
language is spoken.  It proves the path from sound to text; the text means nothing, but follows from the
sound: the weights are large enough that what was heard matters to what is written.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from tests.node.vllm.model_files import byte_tokenizer, write_safetensors

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, LAYERS, HEADS, INNER, MELS = 64, 2, 2, 128, 80
HEARD = 1500  # positions of thirty seconds of sound
WRITTEN = 448  # tokens at most
SEED = 20260102
SPREAD = 0.3  # with 0.05 every sound gives the same text
WEIGHTS = "model.safetensors"
#: ISO 639 codes of the languages that Whisper is asked to tell apart.
LANGUAGES = (
    *("en", "zh", "de", "es", "ru", "ko", "fr", "ja", "pt", "tr", "pl", "ca", "nl", "ar", "sv", "it", "id"),
    *("hi", "fi", "vi", "he", "uk", "el", "ms", "cs", "ro", "da", "hu", "ta", "no", "th", "ur", "hr", "bg"),
    *("lt", "la", "mi", "ml", "cy", "sk", "te", "fa", "lv", "bn", "sr", "az", "sl", "kn", "et", "mk", "br"),
    *("eu", "is", "hy", "ne", "mn", "bs", "kk", "sq", "sw", "gl", "mr", "pa", "si", "km", "sn", "yo", "so"),
    *("af", "oc", "ka", "be", "tg", "sd", "gu", "am", "yi", "lo", "uz", "fo", "ht", "ps", "tk", "nn", "mt"),
    *("sa", "lb", "my", "bo", "tl", "mg", "as", "tt", "haw", "ln", "ha", "ba", "jw", "su", "yue"),
)
END, BEGIN = "<|endoftext|>", "<|startoftranscript|>"
SPECIAL = (
    *(END, BEGIN),
    *(f"<|{language}|>" for language in LANGUAGES),
    *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"),
    "<|notimestamps|>",
)
VOCABULARY = len(SPECIAL) + 256

CONFIG: dict[str, Any] = {
    "architectures": ["WhisperForConditionalGeneration"],
    "model_type": "whisper",
    "is_encoder_decoder": True,
    "d_model": WIDTH,
    "encoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "encoder_ffn_dim": INNER,
    "decoder_layers": LAYERS,
    "decoder_attention_heads": HEADS,
    "decoder_ffn_dim": INNER,
    "num_mel_bins": MELS,
    "max_source_positions": HEARD,
    "max_target_positions": WRITTEN,
    "activation_function": "gelu",
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "decoder_start_token_id": 1,
    "torch_dtype": "float32",
}
_HEARING: dict[str, Any] = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "processor_class": "WhisperProcessor",
    "feature_size": MELS,
    "sampling_rate": 16000,
    "hop_length": 160,
    "chunk_length": 30,
    "n_fft": 400,
    "n_samples": 480000,
    "nb_max_frames": 3000,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
}


def write_tiny_whisper(folder: Path) -> list[str]:
    """Write the model; returns the names of its files."""
    folder.mkdir(parents=True)
    descriptions = {
        "config.json": CONFIG,
        "generation_config.json": {"decoder_start_token_id": 1, "eos_token_id": 0, "pad_token_id": 0},
        "preprocessor_config.json": _HEARING,
        "tokenizer.json": byte_tokenizer(SPECIAL, VOCABULARY),
        "tokenizer_config.json": {
            "tokenizer_class": "WhisperTokenizer",
            "processor_class": "WhisperProcessor",
            **dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), END),
            "additional_special_tokens": [*SPECIAL[1:]],
            "model_max_length": WRITTEN,
        },
    }
    for name, values in descriptions.items():
        (folder / name).write_text(json.dumps(values, indent=1) + "\n")
    draw = random.Random(SEED)  # noqa: S311 - the same each time
    write_safetensors(folder / WEIGHTS, _shapes(), draw, spread=SPREAD)
    return sorted([*descriptions, WEIGHTS])


def _shapes() -> list[tuple[str, tuple[int, ...]]]:
    """Every tensor of the model; what writes out shares the weights of ``embed_tokens``."""
    ends = {
        "encoder.conv1.weight": (WIDTH, MELS, 3),
        "encoder.conv1.bias": (WIDTH,),
        "encoder.conv2.weight": (WIDTH, WIDTH, 3),
        "encoder.conv2.bias": (WIDTH,),
        "encoder.embed_positions.weight": (HEARD, WIDTH),
        "decoder.embed_tokens.weight": (VOCABULARY, WIDTH),
        "decoder.embed_positions.weight": (WRITTEN, WIDTH),
    }
    layers: dict[str, tuple[int, ...]] = {}
    for side in ("encoder", "decoder"):
        for layer in range(LAYERS):
            layers |= {
                f"{side}.layers.{layer}.{name}": shape for name, shape in _layer(side == "decoder").items()
            }
        layers |= _normed(f"{side}.layer_norm")
    return [(f"model.{name}", shape) for name, shape in (ends | layers).items()]


def _layer(writes: bool) -> dict[str, tuple[int, ...]]:
    """One layer; what writes attends to what was heard as well."""
    tensors: dict[str, tuple[int, ...]] = {}
    for attention in ("self_attn", *(["encoder_attn"] if writes else [])):
        for matrix in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors[f"{attention}.{matrix}.weight"] = (WIDTH, WIDTH)
            if matrix != "k_proj":
                tensors[f"{attention}.{matrix}.bias"] = (WIDTH,)
        tensors |= _normed(f"{attention}_layer_norm")
    return tensors | {
        "fc1.weight": (INNER, WIDTH),
        "fc1.bias": (INNER,),
        "fc2.weight": (WIDTH, INNER),
        "fc2.bias": (WIDTH,),
        **_normed("final_layer_norm"),
    }


def _normed(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}
