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

from gru_optuna.data.dataset import UNKNOWN, starts_of

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
        tokens, lengths = narrowing.apply(split.steps, split.starts, split.lengths, limit)
        lengths = lengths.to(split.device)
        return replace(split, steps=tokens, starts=starts_of(lengths), lengths=lengths)

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

    def apply(
        self, tokens: Tensor, starts: Tensor, lengths: Tensor, limit: int
    ) -> tuple[Tensor, Tensor]:
        """Rows one after another, each cut after so many of its new tokens.

        A row that was cut at the same limit before holds all that is needed: a token has one
        part at least.

        Parameters
        ----------
        tokens
            (M,) of all rows.
        starts, lengths
            (N,) where each row starts, and how many tokens it has.
        limit
            Tokens of a row that are kept.

        Returns
        -------
        Tensor, Tensor
            Tokens and lengths again.
        """
        starts, lengths = starts.to(tokens.device), lengths.to(tokens.device)
        here = Narrowing(self.parts.to(tokens.device), self.counts.to(tokens.device))
        made = [
            here._apply(tokens[_steps_from(some, own)], own, limit)
            for some, own in zip(
                torch.split(starts, _ROWS), torch.split(lengths, _ROWS), strict=True
            )
        ]
        return torch.cat([one for one, _ in made]), torch.cat([one for _, one in made])

    def _apply(self, tokens: Tensor, lengths: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """The same of rows that lie one after another."""
        counts = self.counts[tokens]
        places = _steps_from(starts_of(self.counts)[tokens], counts)
        row = torch.arange(len(lengths), device=tokens.device).repeat_interleave(lengths)
        longer = torch.zeros_like(lengths).index_add_(0, row, counts)  # (N,)
        kept = _steps_from(torch.zeros_like(longer), longer) < limit
        return self.parts[places[kept]], longer.clamp(max=limit)


def _steps_from(starts: Tensor, counts: Tensor) -> Tensor:
    """So many whole numbers from each start on, one run after another.

    >>> _steps_from(torch.tensor([7, 0]), torch.tensor([2, 3])).tolist()
    [7, 8, 0, 1, 2]
    """
    total = torch.arange(int(counts.sum()), device=counts.device)
    return total + (starts - starts_of(counts)).repeat_interleave(counts)
