"""Choosing tokens: the model's own distribution, and no row's choice depends on its neighbours."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder.serve.embedded_rows import Detokenizer, Row, Sampling
from sleepy_coder.serve.embedded_sampling import choose, logprobs


def row(temperature: float, top_p: float = 1.0, seed: int = 0, alternatives: int | None = None) -> Row:
    sampling = Sampling(1, temperature=temperature, top_p=top_p, seed=seed, logprobs=alternatives)
    return Row((0,), sampling, None, False, Detokenizer(lambda _: ""), frozenset(), lambda _: None)


def shares(temperature: float, top_p: float, weights: list[float], draws: int = 4000) -> list[float]:
    """How often each token is drawn by rows of as many seeds."""
    logits = torch.tensor(weights).log().expand(draws, -1)
    tokens = choose(logits, [row(temperature, top_p, seed) for seed in range(draws)])
    return [tokens.count(token) / draws for token in range(len(weights))]


def assert_close(measured: list[float], expected: list[float]) -> None:
    assert all(abs(a - b) < 0.03 for a, b in zip(measured, expected, strict=True)), measured


def test_tokens_are_drawn_with_the_models_probabilities() -> None:
    assert_close(shares(1.0, 1.0, [0.1, 0.2, 0.3, 0.4]), [0.1, 0.2, 0.3, 0.4])


def test_half_the_temperature_squares_the_odds() -> None:
    assert_close(shares(0.5, 1.0, [0.2, 0.4, 0.4]), [1 / 9, 4 / 9, 4 / 9])


def test_top_p_keeps_the_smallest_set_with_that_mass() -> None:
    assert_close(shares(1.0, 0.7, [0.1, 0.15, 0.25, 0.5]), [0.0, 0.0, 1 / 3, 2 / 3])


settings = st.tuples(st.sampled_from([0.0, 0.7, 1.0]), st.sampled_from([0.3, 0.9, 1.0]), st.integers(0, 99))


@given(st.lists(settings, min_size=1, max_size=8), st.integers(0, 99))
def test_a_row_chooses_alone_what_it_chooses_in_a_batch(chosen: list[tuple[float, float, int]], seed: int) -> None:
    logits = torch.randn(len(chosen), 50, generator=torch.Generator().manual_seed(seed))
    together = choose(logits, [row(*one) for one in chosen])
    assert together == [choose(logits[i : i + 1], [row(*one)])[0] for i, one in enumerate(chosen)]


def test_broken_logits_still_choose_a_token_of_the_vocabulary() -> None:
    logits = torch.full((3, 5), float("nan"))
    assert all(0 <= token < 5 for token in choose(logits, [row(0.0), row(1.0), row(1.0, 0.5)]))


def test_logprobs_are_those_before_temperature_and_only_for_rows_that_ask() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]).log()
    first, second = logprobs(logits, [row(0.1, alternatives=2), row(1.0)], [0, 2])
    assert second is None
    assert first is not None
    assert [token for token, _ in first.top] == [0, 1]
    assert abs(first.logprob - torch.tensor(0.5).log().item()) < 1e-6
