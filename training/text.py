"""The tokenizer: a genuine `CLIPTokenizer` whose small vocabulary holds the data set's words as whole tokens.

Byte-pair merges are learnt from the words themselves until each is a single token. All 256 bytes stay in the vocabulary,
so anything a user types can be encoded: unknown words come apart into pieces instead of failing.
"""

import itertools
import json
from collections import Counter
from pathlib import Path

from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TOKENS = 32
EXTRA = ["left", "right", "next", "to", "beside", "fruit", "fruits"]


def _byte_alphabet() -> list[str]:
    """The 256 printable stand-ins for bytes that byte-level BPE works on."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(b) for b in kept] + [chr(256 + n) for n in range(256 - len(kept))]


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def make_tokenizer(words: list[str]) -> CLIPTokenizer:
    """Learn merges in the order that applying them will take: the most frequent pair first, until every word is whole."""
    lower = sorted({piece for w in words for piece in w.lower().split("-")} | set(EXTRA))
    split = [[*w[:-1], w[-1] + "</w>"] for w in lower]
    merges: list[tuple[str, str]] = []
    while any(len(parts) > 1 for parts in split):
        pairs = Counter(pair for parts in split for pair in itertools.pairwise(parts))
        best = max(sorted(pairs), key=lambda pair: pairs[pair])
        merges.append(best)
        split = [_merge(parts, best) for parts in split]
    alphabet = _byte_alphabet()
    tokens = alphabet + [c + "</w>" for c in alphabet] + ["".join(m) for m in merges]
    tokens = list(dict.fromkeys(tokens)) + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: n for n, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token="<|endoftext|>", model_max_length=TOKENS)


def tokenizer_for(root: Path) -> CLIPTokenizer:
    """The tokenizer for the words of a data folder."""
    return make_tokenizer(json.loads((root / "captions.json").read_text())["words"])


def make_text_model(tokenizer: CLIPTokenizer, width: int = 160, layers: int = 3) -> CLIPTextModel:
    """A small text transformer, trained from scratch beside the denoiser."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        max_position_embeddings=TOKENS,
        projection_dim=width,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def encode(tokenizer: CLIPTokenizer, captions: list[str]) -> list[list[int]]:
    """Token numbers, padded to the model's length as the pipeline pads them."""
    return tokenizer(captions, padding="max_length", max_length=TOKENS, truncation=True)["input_ids"]
