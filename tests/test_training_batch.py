"""From a batch of the feed to the tensors of a step: what is masked, noisy and normalised, and that it follows from the
sample's number alone; and the loss over several passes and ranks."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batch_rows import rows_of

from rdt_data import Feed
from rdt_data.batch import Batch
from rdt_model.ema import MovingAverage
from rdt_model.run_config import EmaPart, NoisePart, OptimiserPart, RunConfig, load_run
from rdt_model.run_data import LEAST_STD, facts_of
from rdt_model.training_batch import CLEAN, BatchMaker, TrainingBatch
from rdt_model.training_setup import build, parameter_list, trained
from rdt_model.training_step import learning_rate, row

CHANGES = (
    *("batch_size=16", "draws=3", "model.size=tiny", "model.hidden_size=16", "model.depth=2", "model.horizon=4"),
    "model.keypoints={image_size: 32, keypoints: 4, token_dim: 8, channels: [8, 8]}",
)
CAMERAS = ("exterior", "right_wrist")
LOUD = NoisePart(condition_mask=0.5, exterior_mask=0.9, state_snr_db=20, images=0.5)


@pytest.fixture(scope="module")
def config(demo_store: Path) -> RunConfig:
    return load_run(None, list(CHANGES), data=[str(demo_store)], out="unused")


@pytest.fixture(scope="module")
def facts(config: RunConfig) -> Any:
    return facts_of(config.load_mixture())


@pytest.fixture(scope="module")
def batch(config: RunConfig) -> Batch:
    options = {"horizon": 4, "history": 2, "image_size": 32, "cameras": CAMERAS, "split": None}
    with Feed(config.load_mixture(), batch_size=16, producers=0, shuffle_gb=0.01, **options) as feed:
        return next(feed)


@pytest.fixture(scope="module")
def maker(config: RunConfig, facts: Any) -> BatchMaker:
    return BatchMaker(config, facts, CAMERAS, 1000, torch.device("cpu"))


def spread(batch: TrainingBatch) -> TrainingBatch:
    """The language of each row."""
    tokens, mask = batch.lang_tokens[batch.lang_rows], batch.lang_mask[batch.lang_rows]
    longest = int(mask.sum(1).max())
    return replace(
        batch, lang_tokens=tokens[:, :longest], lang_mask=mask[:, :longest], lang_rows=torch.arange(len(batch))
    )


def assert_equal(one: TrainingBatch, other: TrainingBatch) -> None:
    one, other = spread(one), spread(other)
    for field in fields(one):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(ours, torch.Tensor):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0, msg=field.name)


def test_a_row_is_the_same_in_any_batch_and_any_order(batch: Batch, maker: BatchMaker):
    every = maker(batch, LOUD)
    for number in (0, 7, 15):
        assert_equal(row(every, number), maker(rows_of(batch, [number]), LOUD))
    turned = list(range(15, -1, -1))
    assert_equal(row(maker(rows_of(batch, turned), LOUD), 0), row(every, 15))


def test_another_seed_gives_other_noise_and_masks(batch: Batch, config: RunConfig, facts: Any, maker: BatchMaker):
    other = BatchMaker(config.model_copy(update={"seed": 1}), facts, CAMERAS, 1000, torch.device("cpu"))
    ours, theirs = maker(batch, LOUD), other(batch, LOUD)
    assert not torch.equal(ours.noise, theirs.noise)
    assert not torch.equal(ours.image_mask, theirs.image_mask)
    assert not torch.equal(ours.timesteps, theirs.timesteps)


def test_a_masked_state_is_the_mean_a_masked_rate_0_a_masked_instruction_the_empty_one(
    batch: Batch, maker: BatchMaker, facts: Any
):
    found = maker(batch, NoisePart(condition_mask=1, exterior_mask=1, state_snr_db=40, images=0))
    empty = facts["demo"].empty
    assert torch.equal(found.state, torch.zeros_like(found.state)), "the z-score of the mean is 0"
    assert torch.equal(found.ctrl_hz, torch.zeros(16))
    assert not found.image_mask.any()
    assert found.lang_rows.tolist() == [0] * 16
    assert found.lang_mask.sum(1).tolist() == [len(empty)]
    np.testing.assert_array_equal(found.lang_tokens[:, : len(empty)].numpy(), empty[None])
    assert torch.equal(found.action, maker(batch, CLEAN).action), "targets are never masked"


def test_the_exterior_camera_is_masked_at_its_own_rate(batch: Batch, maker: BatchMaker):
    only = maker(batch, NoisePart(condition_mask=0, exterior_mask=1, state_snr_db=None, images=0))
    assert not only.image_mask[:, :, 0].any()
    assert torch.equal(only.image_mask[:, :, 1], torch.from_numpy(batch.image_mask[:, :, 1]))


def test_state_noise_has_the_asked_signal_to_noise_ratio(batch: Batch, maker: BatchMaker, facts: Any):
    clean = maker(batch, CLEAN).state
    noisy = maker(batch, NoisePart(condition_mask=0, exterior_mask=0, state_snr_db=20, images=0)).state
    moving = torch.from_numpy(batch.state_mask[0, 0] & (facts["demo"].state.std > LEAST_STD))
    drawn = (noisy - clean)[:, 0, moving]
    assert float(drawn.std()) == pytest.approx(0.1, rel=0.1), "20 dB are a tenth of the standard deviation"
    assert not (noisy - clean)[:, 0, ~torch.from_numpy(batch.state_mask[0, 0])].any()


def test_normalised_actions_come_back_in_their_units(batch: Batch, maker: BatchMaker):
    back = maker.undo(batch, maker(batch, CLEAN).action.numpy())
    np.testing.assert_allclose(np.where(batch.action_mask, back, 0), batch.action, atol=2e-6)


def test_without_normalisation_state_and_action_are_physical(batch: Batch, config: RunConfig, facts: Any):
    plain = BatchMaker(config.model_copy(update={"normalisation": "none"}), facts, CAMERAS, 1000, torch.device("cpu"))
    found = plain(batch, CLEAN)
    np.testing.assert_array_equal(found.action.numpy(), batch.action)
    np.testing.assert_array_equal(found.state.numpy(), batch.state)


def test_more_noisy_timesteps_are_drawn_when_asked(batch: Batch, maker: BatchMaker):
    even, skewed = maker(batch, CLEAN).timesteps, maker(batch, CLEAN.model_copy(update={"high_noise": 3.0})).timesteps
    assert float(skewed.float().mean()) > float(even.float().mean())
    assert 0 <= int(even.min()) <= int(skewed.max()) < 1000


def test_the_masked_loss_ignores_padding_and_unused_slots(
    batch: Batch, maker: BatchMaker, config: RunConfig, facts: Any
):
    module = _module(config, facts)
    short = replace(batch, valid=batch.valid & (np.arange(4) < 2), action=batch.action.copy())
    garbage = replace(short, action=np.where(short.valid[..., None] & batch.action_mask, batch.action, 1e6))
    one, other = maker(short, CLEAN), maker(garbage, CLEAN)
    assert module(one).item() == module(other).item()
    assert one.numbers == 3 * int(short.valid.sum()) * int(batch.action_mask[0, 0].sum())


def test_one_batch_is_learned_by_heart(batch: Batch, maker: BatchMaker, config: RunConfig, facts: Any):
    module = _module(config.model_copy(update={"model": config.model.model_copy(update={"hidden_size": 64})}), facts)
    ready = maker(rows_of(batch, [0, 5]), CLEAN)
    optimiser = torch.optim.AdamW(module.parameters(), 3e-3)
    first = module(ready).item()
    for _ in range(150):
        optimiser.zero_grad()
        module(ready).backward()
        optimiser.step()
    assert module(ready).item() < 0.01 * first


def test_the_sum_over_rows_is_the_loss_of_the_batch(batch: Batch, maker: BatchMaker, config: RunConfig, facts: Any):
    module, ready = _module(config, facts), maker(batch, LOUD)
    pieces = [maker(rows_of(batch, rows), LOUD) for rows in (list(range(5)), list(range(5, 16)))]
    total = sum(module(piece).item() * piece.numbers for piece in pieces) / sum(piece.numbers for piece in pieces)
    assert module(ready).item() == pytest.approx(total, rel=1e-5)


def test_nothing_is_frozen_by_accident_and_the_list_says_so(config: RunConfig, facts: Any):
    module = _module(config, facts)
    assert trained(module).keys() == dict(module.named_parameters()).keys()
    assert parameter_list(module).splitlines()[0].endswith("trained, 0 frozen")


def test_the_moving_average_has_the_published_decay():
    weight = torch.nn.Parameter(torch.zeros(1))
    average = MovingAverage({"w": weight}, EmaPart(power=0.75, most=0.9))
    expected, values = 0.0, [1.0, 4.0, 2.0, 8.0] * 20
    for step, value in enumerate(values):
        weight.data.fill_(value)
        average.step()
        decay = min(0.9, 1 - (1 + step) ** -0.75)
        expected = decay * expected + (1 - decay) * value
    assert float(average.averages()["w"]) == pytest.approx(expected, rel=1e-5)
    with average.applied():
        assert weight.item() == pytest.approx(expected, rel=1e-5)
    assert weight.item() == values[-1]


def test_the_learning_rate_warms_up_and_then_stays_or_falls():
    config = OptimiserPart(learning_rate=1.0, warmup_steps=4)
    assert [learning_rate(config, step, 10) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    cosine = config.model_copy(update={"schedule": "cosine"})
    assert learning_rate(cosine, 3, 10) == 1
    assert learning_rate(cosine, 7, 10) == pytest.approx(0.5)
    assert 0 < learning_rate(cosine, 9, 10) < 0.1


def _module(config: RunConfig, facts: Any) -> Any:
    return build(config, CAMERAS, facts["demo"].empty.shape[1], lambda line: None)
