"""Texts that are encoded once, in each vocabulary that a study searches.

The tokenizer is trained for the largest vocabulary, and a smaller one is its first token ids.
Of ``word`` and ``char`` these are the most frequent tokens, and the others become unknown. Of
``bpe`` they are the characters and the first merges; a token of a later merge becomes the two
parts it was merged from, and so on until all of them are small enough.

That is what the tokenizer with the first ids alone says of the texts, token for token. Training
makes each token by one merge, of parts that were there before it; so no merge that is left out
ever feeds one that stays, and encoding does those that stay first.

Letters: M tokens of all rows, N rows, V ids of the large vocabulary.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from torch.nn.utils.rnn import pad_sequence

from gru_optuna.data.dataset import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gru_optuna.data.dataset import Dataset, Split

_ROWS = 8192
"""Narrowed at a time: the places of all their tokens take several times the tokens' memory."""


def cut_down(tokenizer: Tokenizer, vocabulary: int) -> Tokenizer:
    """A tokenizer with its first token ids alone."""
    smaller = cut_down_json(json.loads(tokenizer.to_str()), vocabulary)
    return Tokenizer.from_str(json.dumps(smaller))


def cut_down_json(tokenizer: Mapping[str, Any], vocabulary: int) -> dict[str, Any]:
    """The same of a tokenizer's JSON: its first ids, and the merges that make them."""
    model = tokenizer["model"]
    kept = {token: place for token, place in model["vocab"].items() if place < vocabulary}
    smaller = {**model, "vocab": kept}
    if "merges" in model:
        smaller["merges"] = [pair for pair in model["merges"] if "".join(pair) in kept]
    return {**tokenizer, "model": smaller}


def narrow(dataset: Dataset, vocabulary: int) -> Dataset:
    """The same texts in the first so many token ids, and the tokenizer that gives them."""
    tokenizer, limit = (dataset.preprocessing[key] for key in ("tokenizer", "max_tokens"))
    narrowing = Narrowing.of(tokenizer, vocabulary)

    def narrowed(split: Split) -> Split:
        held = torch.arange(split.values.shape[1], device=split.values.device)
        tokens = split.values[held < split.lengths.unsqueeze(1)]
        tokens, lengths = narrowing.apply(tokens, split.lengths, limit)
        rows = list(torch.split(tokens, lengths.tolist()))
        return replace(split, values=pad_sequence(rows, batch_first=True), lengths=lengths)

    return replace(
        dataset,
        train=narrowed(dataset.train),
        validation=narrowed(dataset.validation),
        test=narrowed(dataset.test) if dataset.test else None,
        vocabulary=vocabulary,
        preprocessing={
            **dataset.preprocessing,
            "tokenizer": cut_down_json(tokenizer, vocabulary),
        },
    )


@dataclass(frozen=True)
class Narrowing:
    """What each token of a large vocabulary is in a smaller one."""

    parts: Tensor  # all tokens' parts, one after another
    counts: Tensor  # (V,) how many parts a token has, at least 1

    @classmethod
    def of(cls, tokenizer: Mapping[str, Any], vocabulary: int) -> Narrowing:
        """To the first so many ids of a tokenizer, given as JSON."""
        model = tokenizer["model"]
        ids: dict[str, int] = model["vocab"]
        merged = {ids[a + b]: (ids[a], ids[b]) for a, b in model.get("merges", ())}
        parts: list[list[int]] = []
        for token in range(len(ids)):
            if token < vocabulary:
                parts.append([token])
            elif token in merged:
                # Both are smaller than what they make.
                one, other = merged[token]
                parts.append(parts[one] + parts[other])
            else:
                parts.append([UNKNOWN])
        return cls(
            torch.tensor([part for one in parts for part in one]),
            torch.tensor([len(one) for one in parts]),
        )

    def apply(self, tokens: Tensor, lengths: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """Rows one after another, each cut after so many of its new tokens.

        A row that was cut at the same limit before holds all that is needed: a token has one
        part at least.

        Parameters
        ----------
        tokens
            (M,) of all rows.
        lengths
            (N,) tokens of each row.
        limit
            Tokens of a row that are kept.

        Returns
        -------
        Tensor, Tensor
            Tokens and lengths again.
        """
        chunks = zip(
            torch.split(tokens, [int(one.sum()) for one in torch.split(lengths, _ROWS)]),
            torch.split(lengths, _ROWS),
            strict=True,
        )
        made = [self._apply(*chunk, limit) for chunk in chunks]
        return torch.cat([one for one, _ in made]), torch.cat([one for _, one in made])

    def _apply(self, tokens: Tensor, lengths: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        device = tokens.device
        parts, counts = self.parts.to(device), self.counts.to(device)
        starts, own = counts.cumsum(0) - counts, counts[tokens]
        ends = own.cumsum(0)  # (M,) of each token's parts, among those of all rows
        places = _from_zero(own) + starts[tokens].repeat_interleave(own)
        upto = torch.cat([ends.new_zeros(1), ends])[lengths.cumsum(0)]
        longer = upto.diff(prepend=upto.new_zeros(1))  # (N,)
        kept = _from_zero(longer) < limit
        return parts[places[kept]], longer.clamp(max=limit)


def _from_zero(counts: Tensor) -> Tensor:
    """0 to each count, one after another.

    >>> _from_zero(torch.tensor([2, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    starts = counts.cumsum(0) - counts
    total = torch.arange(int(counts.sum()), device=counts.device)
    return total - starts.repeat_interleave(counts)
