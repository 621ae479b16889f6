"""The smallest tokenizer and text encoder that transformers will still build, save and run."""

from __future__ import annotations

from collections.abc import Iterable

import diffusers
import transformers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer


def quieten() -> None:
    """Keep the libraries from logging and from drawing progress bars."""
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def tokenizer(letters: Iterable[str], words: Iterable[str] = ()) -> CLIPTokenizer:
    """A tokenizer of whole words; others fall apart into letters."""
    tokens = [letter + end for letter in letters for end in ("", "</w>")]
    merges = []
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            pair = (pieces[0], pieces[1])
            if pair not in merges:
                merges.append(pair)
            pieces = ["".join(pair), *pieces[2:]]
            tokens.append(pieces[0])
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=8)


def text_encoder(tokens: CLIPTokenizer, width: int) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )
    return CLIPTextModel(config)
