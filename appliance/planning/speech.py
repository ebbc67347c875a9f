"""Encoder and decoder for speech: Whisper.

The decoder keeps keys and values of the text so far, and once for each sequence those of the encoder's
output, which always has the same length.  Source: the modelling file of the transformers library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.planning.shapes import CacheLayers, ModelShape, TensorGroup, padded_vocabulary

if TYPE_CHECKING:
    from appliance.planning.config import Config
    from appliance.planning.shapes import Split

#: Model types as config.json has them.
SPEECH: Final = ("whisper",)
_KERNEL: Final = 3  # of both convolutions


def speech(config: Config) -> ModelShape:
    """The shape that a Whisper config describes.

    Raises:
        ModelMisdescribed: numbers are missing, impossible, or contradict each other.
    """
    width, heads = config.count("d_model"), config.count("decoder_attention_heads")
    if config.count("encoder_attention_heads") != heads:
        raise config.wrong(
            "encoder and decoder have different numbers of heads; this has not been worked out",
            found=f"{config.count('encoder_attention_heads')} and {heads}",
            wanted="the same number",
        )
    config.divided("d_model", "decoder_attention_heads", (width, heads))
    hearing, speaking = config.count("encoder_layers"), config.count("decoder_layers")
    positions, context = config.count("max_source_positions"), config.count("max_target_positions")
    mels, vocabulary = config.count("num_mel_bins"), config.count("vocab_size")
    encoder, decoder = range(hearing), range(speaking)
    inner = {side: config.count(f"{side}_ffn_dim") for side in ("encoder", "decoder")}
    tensors = [
        TensorGroup("model.encoder.conv1.weight", (width, mels, _KERNEL), "small", "whole"),
        TensorGroup("model.encoder.conv1.bias", (width,), "small", "whole"),
        TensorGroup("model.encoder.conv2.weight", (width, width, _KERNEL), "small", "whole"),
        TensorGroup("model.encoder.conv2.bias", (width,), "small", "whole"),
        TensorGroup("model.encoder.embed_positions.weight", (positions, width), "small", "whole"),
        TensorGroup("model.decoder.embed_positions.weight", (context, width), "small", "whole"),
        TensorGroup("model.decoder.embed_tokens.weight", (vocabulary, width), "embedding"),
        *_norm("model.encoder.layer_norm", width, None),
        *_norm("model.decoder.layer_norm", width, None),
        *_block("model.encoder.layers.{layer}.", ("self_attn",), width, inner["encoder"], encoder),
        *_block(
            "model.decoder.layers.{layer}.", ("self_attn", "encoder_attn"), width, inner["decoder"], decoder
        ),
    ]
    says = f"2 (keys, values) * {heads} heads * {width // heads}"
    return ModelShape(
        family="encoder and decoder",
        architecture="whisper",
        tensors=tuple(tensors),
        cache=(
            CacheLayers(speaking, 2 * width, heads, says),
            CacheLayers(speaking, 2 * width, heads, says, positions=positions),
        ),
        heads=heads,
        kv_heads=heads,
        widths={
            "encoder's width": inner["encoder"],
            "decoder's width": inner["decoder"],
            **padded_vocabulary(vocabulary),
        },
        context=context,
        layers=speaking,
        notes=(f"each sequence also keeps {positions} positions of sound, however long or short it is",),
    )


def _block(
    prefix: str, attentions: tuple[str, ...], width: int, inner: int, layers: range
) -> list[TensorGroup]:
    found = []
    for attention in attentions:
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            place = f"{prefix}{attention}.{name}"
            found.append(TensorGroup(f"{place}.weight", (width, width), layers=layers))
            if name != "k_proj":  # alone has no bias
                split: Split = "whole" if name == "out_proj" else "even"
                found.append(TensorGroup(f"{place}.bias", (width,), "small", split, layers))
        found += _norm(f"{prefix}{attention}_layer_norm", width, layers)
    return [
        *found,
        TensorGroup(f"{prefix}fc1.weight", (inner, width), layers=layers),
        TensorGroup(f"{prefix}fc1.bias", (inner,), "small", layers=layers),
        TensorGroup(f"{prefix}fc2.weight", (width, inner), layers=layers),
        TensorGroup(f"{prefix}fc2.bias", (width,), "small", "whole", layers),
        *_norm(f"{prefix}final_layer_norm", width, layers),
    ]


def _norm(name: str, width: int, layers: range | None) -> list[TensorGroup]:
    return [
        TensorGroup(f"{name}.{part}", (width,), "small", "whole", layers) for part in ("weight", "bias")
    ]
