"""The generated model, read back with the format's own reader and run by hand."""

from __future__ import annotations

import hashlib
import re
import struct
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import DefinitionInvalid
from appliance.sources import tiny_gguf

if TYPE_CHECKING:
    from pathlib import Path

SENTENCE = "This answer was computed on this node, with no way out."

SENTENCES = [
    SENTENCE,
    "a",
    "no no no no no",
    "the cat and the dog and the cat",
    "two  spaces   here",
    "日本語 の 文 です。 Füße 🙂",
    "<think> hidden </think> shown",
    "x" * tiny_gguf.MAX_SENTENCE_BYTES,
    # As many pieces as the limit allows: every one-letter word, then short ones.
    " ".join(map(chr, range(33, 127))) + " " + " ".join(f"{n:02}" for n in range(100)),
]


class Model:
    """A GGUF file opened for reading, with just enough arithmetic to run this chain."""

    def __init__(self, path: Path) -> None:
        self.reader = gguf.GGUFReader(path)
        self.tensors = {tensor.name: np.array(tensor.data) for tensor in self.reader.tensors}
        self.vocabulary: list[str] = self.field("tokenizer.ggml.tokens")

    def field(self, key: str) -> Any:
        field = self.reader.get_field(key)
        assert field is not None, key
        return field.contents()

    def logits(self, token: int) -> np.ndarray:
        """Logits after ``token``; attention and feed-forward add nothing when their outputs are zero."""
        for name in ("blk.0.attn_output.weight", "blk.0.ffn_down.weight"):
            assert not self.tensors[name].any(), name
        hidden = self.tensors["token_embd.weight"][token].astype(np.float32)
        hidden /= np.sqrt(np.mean(hidden**2) + self.field("llama.attention.layer_norm_rms_epsilon"))
        return self.tensors["output.weight"].astype(np.float32) @ (
            hidden * self.tensors["output_norm.weight"]
        )

    def answer(self, token: int) -> str:
        """Greedy text after ``token`` up to the end token; fails where sampling could differ."""
        end = self.field("tokenizer.ggml.eos_token_id")
        texts: list[str] = []
        while len(texts) <= len(self.vocabulary):
            logits = self.logits(token)
            second, first = np.sort(logits)[-2:]
            assert first - second > 100, "the next token must be certain"
            token = int(np.argmax(logits))
            if token == end:
                letters = {letter: byte for byte, letter in enumerate(tiny_gguf._byte_letters())}
                return bytes(letters[letter] for letter in "".join(texts)).decode()
            texts.append(self.vocabulary[token])
        pytest.fail("the chain never ends")


def model(tmp_path: Path, sentence: str) -> Model:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_gguf.generate(sentence))
    return Model(path)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_answers_with_exactly_the_sentence_after_the_assistant_mark(tmp_path: Path, sentence: str) -> None:
    read = model(tmp_path, sentence)
    assert read.answer(read.vocabulary.index(tiny_gguf.ASSISTANT)) == sentence


def test_any_token_outside_the_sentence_leads_to_its_beginning(tmp_path: Path) -> None:
    read = model(tmp_path, SENTENCE)
    pieces = {tiny_gguf._encoded(piece) for piece in tiny_gguf.cut(SENTENCE)}
    others = [token for token, text in enumerate(read.vocabulary) if text not in pieces]
    assert len(others) == len(read.vocabulary) - len(pieces)
    assert {read.answer(token) for token in others} == {SENTENCE}


def test_same_sentence_same_bytes_everywhere() -> None:
    """The digest is pinned: a lock made on one machine must hold on every other."""
    first = tiny_gguf.generate(SENTENCE)
    assert first == tiny_gguf.generate(SENTENCE)
    assert hashlib.sha256(first).hexdigest() == (
        "540aab1f6833ab22ed0858feb3d778021fd6d75ec6bd475e4a73cc5afcef683e"
    )


def test_another_sentence_gives_another_model() -> None:
    assert tiny_gguf.generate("yes") != tiny_gguf.generate("no")


def test_written_as_little_endian_gguf_3() -> None:
    assert struct.unpack_from("<4sI", tiny_gguf.generate(SENTENCE)) == (b"GGUF", 3)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_stays_small(sentence: str) -> None:
    assert len(tiny_gguf.generate(sentence)) < 1_000_000


@pytest.mark.parametrize("sentence", SENTENCES)
def test_shape_and_vocabulary_agree_with_the_tensors(tmp_path: Path, sentence: str) -> None:
    read = model(tmp_path, sentence)
    tokens, width = read.tensors["token_embd.weight"].shape
    assert len(read.vocabulary) == len(set(read.vocabulary)) == tokens == read.field("llama.vocab_size")
    assert read.field("llama.embedding_length") == width
    assert width % read.field("llama.attention.head_count") == 0
    assert width // read.field("llama.attention.head_count") == read.field("llama.rope.dimension_count")
    assert read.field("tokenizer.ggml.merges")
    controls = [
        text
        for text, kind in zip(read.vocabulary, read.field("tokenizer.ggml.token_type"), strict=True)
        if kind == gguf.TokenType.CONTROL
    ]
    assert controls == list(tiny_gguf.CONTROL_TOKENS)
    assert set(tiny_gguf._byte_letters()) <= set(read.vocabulary)


def test_byte_letters_are_those_of_gpt2() -> None:
    letters = tiny_gguf._byte_letters()
    assert len(set(letters)) == 256
    # Fixed points and the well-known spellings of newline, space, delete and soft hyphen.
    assert (letters[ord("A")], letters[0xFF]) == ("A", "ÿ")
    assert [letters[byte] for byte in (0x0A, 0x20, 0x7F, 0xAD)] == ["Ċ", "Ġ", "ġ", "Ń"]


@given(st.text(alphabet="ab ", min_size=1, max_size=40).map(str.strip).filter(bool))
def test_pieces_differ_and_join_to_the_sentence(sentence: str) -> None:
    pieces = tiny_gguf.cut(sentence)
    assert "".join(pieces) == sentence
    assert len(pieces) == len(set(pieces))


def test_a_sentence_without_repeats_is_cut_word_by_word() -> None:
    """Streaming shows words only because the pieces are words."""
    assert tiny_gguf.cut("one two three") == ["one", " two", " three"]


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("", "nothing"),
        ("x" * 513, "513 bytes of UTF-8"),
        ("ü" * 257, "514 bytes of UTF-8"),
        ("line\nbreak", "U+000A"),
        ("a\ttab", "U+0009"),
        ("bell\x07", "U+0007"),
        ("no\u00a0break", "U+00A0"),
        ("right\u202eleft", "U+202E"),
        ("half\ud800", "U+D800"),
        (" before", "a space at an end"),
        ("after ", "a space at an end"),
        (" ", "a space at an end"),
        ("<|end|>", "<|end|>"),
        ("say <|assistant|> now", "<|assistant|>"),
    ],
)
def test_a_sentence_it_cannot_keep_is_refused(sentence: str, found: str) -> None:
    with pytest.raises(DefinitionInvalid, match="sentence") as caught:
        tiny_gguf.generate(sentence)
    assert caught.value.found == found
    assert caught.value.wanted
    assert caught.value.hint
    assert caught.value.exit_code == 3


def test_the_longest_sentence_is_accepted() -> None:
    tiny_gguf.check_sentence("ü" * 256)


def test_every_role_of_a_conversation_appears_in_the_template() -> None:
    import jinja2

    rendered = jinja2.Environment(autoescape=False).from_string(tiny_gguf.CHAT_TEMPLATE)  # noqa: S701 -- not HTML
    text = rendered.render(
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": None},
        ],
        add_generation_prompt=True,
    )
    assert re.findall(r"<\|\w+\|>|[^<]+", text) == [
        *("<|system|>", "be brief", "<|end|>"),
        *("<|user|>", "hello", "<|end|>"),
        *("<|assistant|>", "<|end|>", "<|assistant|>"),
    ]
