"""The reference trainer: what a trial computes, piece by piece, on real data."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import pytest
import torch
from helpers.splits import split_of_rows
from helpers.workspaces import PLAIN, REPOSITORY, TINY_STUDY
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gru_optuna import study_file
from gru_optuna.data.dataset import Dataset, Units
from gru_optuna.data.load import load_dataset
from gru_optuna.errors import Diverged
from gru_optuna.hyperparameters import Pooling
from gru_optuna.seeds import generator
from gru_optuna.training.initializers import initial_parameters
from gru_optuna.training.losses import loss
from gru_optuna.training.network import Network
from gru_optuna.training.reference import GRU, Trainer
from gru_optuna.training.regularizers import dropout_masks, penalty

if TYPE_CHECKING:
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Specification:
    path = tmp_path_factory.mktemp("study") / "tiny.toml"
    path.write_text(TINY_STUDY)
    return study_file.load(path, ["training.epochs=12", "training.patience=3"])


@pytest.fixture(scope="module")
def vowels(spec: Specification) -> Dataset:
    return load_dataset(spec, REPOSITORY / "studies")


def trained(
    spec: Specification, dataset: Dataset, hyperparameters: Hyperparameters, epochs: int = 2
) -> Trainer:
    trainer = Trainer(spec, dataset, hyperparameters, seed=1)
    for _ in range(epochs):
        trainer.train_epoch()
    return trainer


def make_model(
    layers: int = 1, bidirectional: bool = False, pooling: str = "last", inputs: int = 3
) -> tuple[Network, GRU]:
    network = Network(inputs, 5, layers, bidirectional, pooling, outputs=4)  # type: ignore[arg-type]
    model = GRU(network).double()
    model.load_state_dict(initial_parameters(network, "xavier_normal", seed=2))
    return network, model


def noise(*shape: int) -> torch.Tensor:
    """The same float64 numbers for a shape in every run."""
    drawn = torch.Generator().manual_seed(3)
    return torch.randn(shape, generator=drawn, dtype=torch.float64)


# --- the network ---


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_network_is_torch_nn_gru_and_a_linear_head(layers: int, bidirectional: bool) -> None:
    _, model = make_model(layers, bidirectional)
    whole = nn.GRU(3, 5, layers, batch_first=True, bidirectional=bidirectional).double()
    stacked = {
        name.removeprefix(f"layers.{layer}.").replace("_l0", f"_l{layer}"): weight
        for layer in range(layers)
        for name, weight in model.state_dict().items()
        if name.startswith(f"layers.{layer}.")
    }
    whole.load_state_dict(stacked)
    values = noise(6, 9, 3)
    states = whole(values)[1][-2 if bidirectional else -1 :]
    expected = model.head(torch.cat(list(states), dim=1))
    torch.testing.assert_close(model(values, torch.full((6,), 9)), expected)


def test_mean_pooling_is_the_mean_over_the_steps_that_hold_data() -> None:
    _, model = make_model(pooling="mean")
    values = noise(2, 7, 3)
    lengths = torch.tensor([4, 7])
    outputs = model.layers[0](values)[0]
    expected = torch.stack([outputs[0, :4].mean(0), outputs[1].mean(0)])
    torch.testing.assert_close(model(values, lengths), model.head(expected))


def test_mean_and_maximum_are_read_side_by_side() -> None:
    _, model = make_model(pooling="mean_max")
    values = noise(2, 7, 3)
    lengths = torch.tensor([4, 7])
    outputs = model.layers[0](values)[0]
    steps = [outputs[0, :4], outputs[1]]
    expected = [torch.cat([of_row.mean(0), of_row.amax(0)]) for of_row in steps]
    torch.testing.assert_close(model(values, lengths), model.head(torch.stack(expected)))


def test_a_maximum_below_zero_isnt_padding() -> None:
    _, model = make_model(pooling="max")
    values = noise(2, 7, 3)
    outputs = model.layers[0](values)[0]
    assert (outputs[0, :2].amax(0) < 0).any()
    expected = torch.stack([outputs[0, :2].amax(0), outputs[1].amax(0)])
    torch.testing.assert_close(model(values, torch.tensor([2, 7])), model.head(expected))


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    more=st.integers(1, 20),
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    pooling=st.sampled_from(get_args(Pooling)),
    garbage=st.sampled_from([0.0, 1e6, float("nan")]),
)
def test_padding_a_batch_further_changes_no_output(
    lengths: list[int], more: int, layers: int, bidirectional: bool, pooling: str, garbage: float
) -> None:
    _, model = make_model(layers, bidirectional, pooling)
    longest = max(lengths)
    values = noise(len(lengths), longest, 3)
    padded = torch.full((len(lengths), longest + more, 3), garbage, dtype=torch.float64)
    for row, length in enumerate(lengths):
        padded[row, :length] = values[row, :length]
    steps = torch.tensor(lengths)
    assert torch.equal(model(values, steps), model(padded, steps))


def test_a_row_gets_the_same_logits_alone_and_in_a_batch(
    spec: Specification, vowels: Dataset
) -> None:
    trainer = trained(spec, vowels.to(torch.device("cpu"), torch.float64), PLAIN, 1)
    split = trainer.dataset.validation
    together = trainer.predict(split)
    alone = torch.cat([trainer.predict(split.rows(torch.tensor([row]))) for row in range(5)])
    torch.testing.assert_close(together[:5], alone)


# --- learning ---


def test_one_epoch_of_adam_is_what_its_paper_says(spec: Specification, vowels: Dataset) -> None:
    """One batch per epoch, so one step: m̂ = g, v̂ = g², and each weight moves by lr·g/(|g|+ε)."""
    whole = replace(PLAIN, batch_size=1000, clip_norm=None)
    dataset = vowels.to(torch.device("cpu"), torch.float64)
    trainer = Trainer(spec, dataset, whole, seed=1)
    before = {name: w.detach().clone() for name, w in trainer.model.named_parameters()}
    split = dataset.train
    entropy = nn.functional.cross_entropy(
        trainer.model(split.batch().values, split.lengths), split.targets
    )
    gradients = torch.autograd.grad(entropy, list(trainer.model.parameters()))
    trainer.train_epoch()
    for (name, after), gradient in zip(trainer.model.named_parameters(), gradients, strict=True):
        expected = before[name] - 0.01 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(after, expected, rtol=1e-7, atol=1e-7)


def test_one_epoch_of_rmsprop_is_what_its_lecture_says(
    spec: Specification, vowels: Dataset
) -> None:
    """From zero, v = 0.01·g², so each weight moves by lr·g/(0.1·|g|+ε)."""
    whole = replace(PLAIN, batch_size=1000, clip_norm=None, optimizer="rmsprop")
    dataset = vowels.to(torch.device("cpu"), torch.float64)
    trainer = Trainer(spec, dataset, whole, seed=1)
    before = trainer.model.head.bias.detach().clone()
    split = dataset.train
    entropy = nn.functional.cross_entropy(
        trainer.model(split.batch().values, split.lengths), split.targets
    )
    (gradient,) = torch.autograd.grad(entropy, [trainer.model.head.bias])
    trainer.train_epoch()
    expected = before - 0.01 * gradient / (0.1 * gradient.abs() + 1e-8)
    torch.testing.assert_close(trainer.model.head.bias, expected, rtol=1e-6, atol=1e-9)


def test_clipping_limits_the_norm_of_all_gradients_together(
    spec: Specification, vowels: Dataset
) -> None:
    """RMSprop with one huge ε would show it; plainer: the gradients left behind by the step."""
    clipped = trained(spec, vowels, replace(PLAIN, clip_norm=0.01), epochs=1)
    free = trained(spec, vowels, replace(PLAIN, clip_norm=None), epochs=1)

    def norm(trainer: Trainer) -> float:
        gradients = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
        return torch.cat(gradients).norm().item()

    assert norm(clipped) == pytest.approx(0.01, rel=1e-3)
    assert norm(free) > 0.1


def test_the_learning_rate_follows_the_decay(spec: Specification, vowels: Dataset) -> None:
    halving = replace(PLAIN, decay="exponential", decay_gamma=0.5)
    trainer = trained(spec, vowels, halving, epochs=3)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 / 4)


def test_the_last_smaller_batch_is_trained_too() -> None:
    rows = torch.arange(10.0).reshape(10, 1, 1)
    split = split_of_rows(
        rows, torch.ones(10, dtype=torch.int64), torch.zeros(10, dtype=torch.int64)
    )
    assert [len(batch) for batch in split.batches(4)] == [4, 4, 2]


# --- regularization ---


def test_the_penalty_counts_weight_matrices_but_not_biases(
    spec: Specification, vowels: Dataset
) -> None:
    weights = [torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0]])]
    # 0.1 * (1 + 2 + 3) + 0.01 * (1 + 4 + 9)
    assert penalty(weights, l1=0.1, l2=0.01).item() == pytest.approx(0.74)

    def bias_and_kernels(l2: float) -> tuple[torch.Tensor, torch.Tensor]:
        trainer = Trainer(spec, vowels, replace(PLAIN, l2=l2, clip_norm=None), seed=1)
        trainer._step(vowels.train.batch(torch.arange(32)), None)
        layer = trainer.model.layers[0]
        return layer.bias_hh_l0.grad, layer.weight_hh_l0.grad

    (bias, kernel), (bias_with, kernel_with) = bias_and_kernels(0.0), bias_and_kernels(0.5)
    assert torch.equal(bias, bias_with)
    start = Trainer(spec, vowels, PLAIN, seed=1).model.layers[0].weight_hh_l0
    torch.testing.assert_close(kernel_with - kernel, 2 * 0.5 * start)


def test_l1_makes_weights_smaller(spec: Specification, vowels: Dataset) -> None:
    def mean_weight(l1: float) -> float:
        trainer = trained(spec, vowels, replace(PLAIN, l1=l1), epochs=5)
        return trainer.model.layers[0].weight_hh_l0.abs().mean().item()

    assert mean_weight(1e-2) < 0.8 * mean_weight(0.0)


def test_dropout_masks_keep_the_expectation_and_the_rate() -> None:
    network, _ = make_model(layers=2, bidirectional=True)
    masks = dropout_masks(network, 4000, 0.25, generator(1, "dropout"))
    assert masks is not None
    assert masks.shape == (2, 4000, 10)
    assert masks.unique().tolist() == pytest.approx([0, 4 / 3])
    assert masks.mean().item() == pytest.approx(1.0, abs=0.01)
    assert (masks == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert dropout_masks(network, 4, 0.0, generator(1, "dropout")) is None


def test_dropout_is_off_when_predicting(spec: Specification, vowels: Dataset) -> None:
    trainer = trained(spec, vowels, replace(PLAIN, dropout=0.5), epochs=1)
    assert torch.equal(trainer.predict(vowels.validation), trainer.predict(vowels.validation))


def test_dropout_reaches_every_layer(spec: Specification, vowels: Dataset) -> None:
    _, model = make_model(layers=2)
    values, lengths = noise(1, 4, 3), torch.tensor([4])
    ones = torch.ones(2, 1, 5, dtype=torch.float64)
    for layer in (0, 1):
        masks = ones.clone()
        masks[layer] = 0
        assert not torch.equal(model(values, lengths, masks), model(values, lengths, ones))


# --- texts ---

WORDS = 12  # token ids, padding and unknown included


def tokens(rows: int = 90) -> Dataset:
    """Rows of 1 to 6 tokens, of class 1 if token 2 or 3 is among them."""
    draw = generator(5, "shuffle")
    values = torch.randint(2, WORDS, (rows, 6), generator=draw)
    lengths = torch.randint(1, 7, (rows,), generator=draw)
    values[torch.arange(6) >= lengths[:, None]] = 0
    split = split_of_rows(values, lengths, ((values == 2) | (values == 3)).any(1).long())
    index = torch.arange(rows)
    return Dataset(
        split.rows(index[30:]), split.rows(index[:30]), None, ("n", "y"), "drawn", vocabulary=WORDS
    )


TEXT = replace(PLAIN, embedding_size=6)


def test_tokens_are_embedded_and_those_after_a_rows_end_are_not_read() -> None:
    network = Network(4, 5, 1, bidirectional=True, pooling="mean", outputs=3, vocabulary=WORDS)
    model = GRU(network)
    parameters = initial_parameters(network, "xavier_normal", seed=2)
    assert next(iter(parameters)) == "embedding.weight"
    model.load_state_dict(parameters)
    values, lengths = torch.tensor([[2, 5, 7, 1], [3, 0, 0, 0]]), torch.tensor([4, 1])
    plain = GRU(replace(network, vocabulary=0))
    plain.load_state_dict({k: w for k, w in parameters.items() if k != "embedding.weight"})
    expected = plain(parameters["embedding.weight"][values], lengths)
    assert torch.equal(model(values, lengths), expected)
    garbage = values.clone()
    garbage[1, 1:] = 9
    assert torch.equal(model(garbage, lengths), expected)


def test_a_trial_learns_which_tokens_matter(spec: Specification) -> None:
    trainer = trained(spec, tokens(), replace(TEXT, batch_size=8), epochs=10)
    assert trainer.progress.best.value > 0.9


def test_paddings_embedding_is_zero_and_stays_so(spec: Specification) -> None:
    embedding = trained(spec, tokens(), TEXT, epochs=3).model.state_dict()["embedding.weight"]
    assert (embedding[0] == 0).all()
    assert (embedding[2:].abs().sum(1) > 0).all()


def test_penalties_leave_the_embedding_alone(spec: Specification) -> None:
    def gradients(**penalties: float) -> list[torch.Tensor]:
        trainer = Trainer(spec, tokens(), replace(TEXT, clip_norm=None, **penalties), seed=1)
        trainer._step(trainer.dataset.train.batch(torch.arange(32)), None)
        parameters = dict(trainer.model.named_parameters())
        names = ("embedding.weight", "head.weight")
        return [parameters[name].grad for name in names]  # type: ignore[misc]

    (embedding, head), (embedding_with, head_with) = gradients(), gradients(l1=0.1, l2=0.5)
    assert torch.equal(embedding, embedding_with)
    assert not torch.equal(head, head_with)


def test_a_trial_may_read_less_of_a_text(spec: Specification) -> None:
    data = tokens()
    short = replace(TEXT, max_tokens=2)
    cut = [
        split_of_rows(split.batch().values[:, :2], split.lengths.clamp(max=2), split.targets)
        for split in (data.train, data.validation)
    ]
    expected = trained(spec, replace(data, train=cut[0], validation=cut[1]), TEXT)
    assert trained(spec, data, short).progress.curve == expected.progress.curve
    assert trained(spec, data, TEXT).progress.curve != expected.progress.curve


# --- losses ---


def test_a_row_weighs_what_its_class_weighs() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    targets, weights = torch.tensor([0, 1, 1]), torch.tensor([0.5, 2.0])
    each = nn.functional.cross_entropy(logits, targets, reduction="none")
    expected = (0.5 * each[0] + 2 * each[1] + 2 * each[2]) / 3
    torch.testing.assert_close(loss(logits, targets, weights), expected)
    torch.testing.assert_close(loss(logits, targets), each.mean())
    torch.testing.assert_close(loss(logits, targets, torch.ones(2)), each.mean())


def test_the_loss_of_numbers_is_their_squared_error_and_zero_for_missing_ones() -> None:
    outputs = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    targets = torch.tensor([[0.0, 4.0], [float("nan"), 4.0]])
    error = loss(outputs, targets)
    assert error.item() == pytest.approx((1 + 4 + 0 + 0) / 4)
    (gradient,) = torch.autograd.grad(error, outputs)
    torch.testing.assert_close(gradient, torch.tensor([[2.0, -4.0], [0.0, 0.0]]) / 4)


def test_a_trial_learns_numbers_and_is_measured_in_their_units() -> None:
    draw = generator(6, "shuffle")
    values = torch.randn(80, 5, 2, generator=draw)
    sums = values.sum(dim=(1, 2), keepdim=True)[:, :, 0].double()
    units = Units(torch.full((80, 1), 50.0).double(), torch.full((80, 1), 20.0).double())
    split = split_of_rows(values, torch.full((80,), 5), sums.float(), units)
    index = torch.arange(80)
    data = Dataset(split.rows(index[20:]), split.rows(index[:20]), None, (), "", task="regression")
    content = {"name": "x", "task": "regression", "metric": "mae", "data": {"train": "x.npz"}}
    trainer = trained(
        study_file.parse(content, source="x"), data, replace(PLAIN, batch_size=8), epochs=30
    )
    predicted = units.restore(trainer.predict(split))[:20]
    mae = (predicted - 50 - 20 * sums[:20]).abs().mean().item()
    assert trainer.progress.curve[-1].value == pytest.approx(mae, rel=1e-5)
    assert mae < 0.4 * (20 * sums[:20]).abs().mean().item()


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 3.0])])
def test_smoothed_labels_give_every_class_an_even_share(weights: torch.Tensor | None) -> None:
    draw = generator(8, "shuffle")
    logits, targets = torch.randn(7, 3, generator=draw), torch.randint(0, 3, (7,), generator=draw)
    goals = 0.7 * nn.functional.one_hot(targets, 3) + 0.3 / 3
    each = torch.ones(3) if weights is None else weights
    by_hand = -(goals * each * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss(logits, targets, weights, 0.3), by_hand)
    assert loss(logits, targets, weights, 0.0) == loss(logits, targets, weights)


def test_validation_rows_keep_their_labels(spec: Specification, vowels: Dataset) -> None:
    """So that the validation losses of two trials can be compared."""
    still = replace(PLAIN, learning_rate=1e-30)
    plain, smoothed = (
        trained(spec, vowels, replace(still, label_smoothing=share)).progress.curve[0]
        for share in (0.0, 0.4)
    )
    assert smoothed.validation_loss == plain.validation_loss
    assert smoothed.train_loss != plain.train_loss


# --- augmentation ---

NOISY = replace(
    TEXT,
    token_deletion=0.2,
    token_insertion=0.2,
    token_swap=0.2,
    word_dropout=0.2,
    batch_size=16,
)


def test_augmentation_is_drawn_again_in_each_epoch_from_the_trials_own_generator(
    spec: Specification,
) -> None:
    still = replace(NOISY, learning_rate=1e-30)
    curve = trained(spec, tokens(), still, epochs=3).progress.curve
    assert len({round(result.train_loss, 9) for result in curve}) == 3
    # The weights stand still, and validation rows stay as they are.
    assert len({result.validation_loss for result in curve}) == 1
    torch.rand(7)
    assert trained(spec, tokens(), still, epochs=3).progress.curve == curve


def test_augmentation_that_is_off_changes_no_other_draw(
    spec: Specification, vowels: Dataset
) -> None:
    noisy = replace(PLAIN, dropout=0.3)
    off = replace(noisy, jitter=0.0, scaling=0.0, time_masking=0.0)
    plain = trained(spec, vowels, noisy).progress.curve
    assert trained(spec, vowels, off).progress.curve == plain
    assert trained(spec, vowels, replace(off, jitter=0.1)).progress.curve != plain


# --- a trial as a whole ---


def test_a_trial_learns(spec: Specification, vowels: Dataset) -> None:
    trainer = trained(spec, vowels, PLAIN, epochs=8)
    assert trainer.progress.curve[-1].train_loss < 0.5 * trainer.progress.curve[0].train_loss
    assert trainer.progress.best.value > 0.8


def test_the_same_seed_gives_the_same_curve_bit_for_bit(
    spec: Specification, vowels: Dataset
) -> None:
    noisy = replace(PLAIN, dropout=0.3, batch_size=16)
    first, again = trained(spec, vowels, noisy), trained(spec, vowels, noisy)
    assert first.progress.curve == again.progress.curve
    other = Trainer(spec, vowels, noisy, seed=2)
    assert other.train_epoch() != first.progress.curve[0]


def test_nothing_but_the_seed_is_drawn_from(spec: Specification, vowels: Dataset) -> None:
    """Whatever else used torch's global generator before."""
    noisy = replace(PLAIN, dropout=0.3)
    first = trained(spec, vowels, noisy)
    torch.manual_seed(12345)
    torch.rand(7)
    assert trained(spec, vowels, noisy).progress.curve == first.progress.curve


def test_early_stopping_restores_the_best_epochs_weights(
    spec: Specification, vowels: Dataset
) -> None:
    unsteady = replace(PLAIN, learning_rate=0.05, optimizer="rmsprop")
    trainer = Trainer(spec, vowels, unsteady, seed=1)
    weights = []
    while not (trainer.progress.finished or trainer.progress.out_of_patience):
        trainer.train_epoch()
        weights.append(trainer.model.head.weight.detach().clone())
    best = trainer.progress.best_epoch
    assert best < trainer.progress.epoch
    trainer.model.load_state_dict(trainer.best_weights)
    assert torch.equal(trainer.model.head.weight, weights[best - 1])
    validation = vowels.validation
    expected = nn.functional.cross_entropy(trainer.predict(validation), validation.targets)
    assert expected.item() == pytest.approx(trainer.progress.best.validation_loss, rel=1e-6)


def test_a_loss_that_is_not_a_number_ends_the_trial(spec: Specification, vowels: Dataset) -> None:
    exploding = replace(PLAIN, learning_rate=1e30, l2=1.0, clip_norm=None)
    with pytest.raises(Diverged, match=r"diverged in epoch \d: .* is not finite"):
        trained(spec, vowels, exploding, epochs=5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_trains_the_same_trial(spec: Specification, vowels: Dataset) -> None:
    on_cpu = trained(spec, vowels, PLAIN)
    on_cuda = trained(spec, vowels.to(torch.device("cuda")), PLAIN)
    for expected, result in zip(on_cpu.progress.curve, on_cuda.progress.curve, strict=True):
        assert result.train_loss == pytest.approx(expected.train_loss, rel=1e-3)
