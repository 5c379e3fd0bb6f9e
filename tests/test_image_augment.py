"""Camera frames in training: augmented by their own recipes, the same in any batch; what is not chosen stays as it is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torchvision.transforms.v2 import functional as torchvision

from rdt_data.errors import RdtError
from rdt_model.image_augment import augment_images, carry_out
from rdt_model.image_recipes import BLURS, JITTER, NOISES, STRONGEST_NOISE, Step, draw_recipe

RANGES = {**JITTER, **dict.fromkeys(NOISES, (0.0, STRONGEST_NOISE)), **BLURS}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
REFERENCE = 384  # pixels, where extents are as the tables say


def batch(windows: int, size: int, history: int = 2, cameras: int = 2) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Frames of smooth colours, all real, and numbers of their windows."""
    rng = np.random.default_rng(windows)
    shape = (windows, history, cameras)
    corners = torch.from_numpy(rng.integers(0, 256, (windows * history * cameras, 3, 4, 4)).astype(np.float32))
    frames = torch.nn.functional.interpolate(corners, (size, size), mode="bilinear").to(torch.uint8)
    return frames.permute(0, 2, 3, 1).reshape(*shape, size, size, 3), torch.ones(shape).bool(), 100 + np.arange(windows)


def smooth(size: int, count: int = 1) -> torch.Tensor:
    """(count, 3, size, size), 0 to 1."""
    return batch(count, size, 1, 1)[0].flatten(0, 2).permute(0, 3, 1, 2).contiguous() / 255


def point(size: int) -> torch.Tensor:
    """A black frame with one white point in the middle, (1, 3, size, size)."""
    frames = torch.zeros(1, 3, size, size)
    frames[:, :, size // 2, size // 2] = 1
    return frames


def apply(frames: torch.Tensor, *steps: Step) -> torch.Tensor:
    return carry_out([steps] * len(frames), frames.clone())


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(8)),
    cuts=st.sets(st.integers(1, 7), max_size=3),
    size=st.sampled_from([17, 32]),
    seed=st.integers(0, 2**64 - 1),
)
def test_rows_are_the_same_bits_in_any_batch_and_any_order(order, cuts, size, seed):
    images, mask, samples = batch(8, size)
    whole = augment_images(images, mask, samples, seed)
    for rows in np.split(np.array(order), sorted(cuts)):
        assert torch.equal(augment_images(images[rows], mask[rows], samples[rows], seed), whole[rows])


def test_large_frames_are_the_same_bits_alone_and_in_a_batch():
    images, mask, samples = batch(4, 272, 1, 2)
    whole = augment_images(images, mask, samples, 1, share=1.0)
    alone = [
        augment_images(images[row : row + 1], mask[row : row + 1], samples[row : row + 1], 1, share=1.0)
        for row in range(4)
    ]
    assert torch.equal(torch.cat(alone), whole)


@pytest.mark.parametrize("device", DEVICES)
def test_only_real_and_chosen_frames_change_and_the_input_stays(device):
    images, mask, samples = batch(12, 24)
    mask[::3, 0] = False
    before = images.clone()
    result = augment_images(images.to(device), mask, samples, 5)
    recipes = [[draw_recipe(5, int(sample), frame, 0.5) for frame in range(4)] for sample in samples]
    chosen = torch.tensor([[bool(recipe) for recipe in row] for row in recipes]).view(mask.shape) & mask
    changed = (result.cpu() != images).flatten(3).any(-1)
    assert torch.equal(changed, chosen)
    assert 0.3 * mask.sum() < chosen.sum() < 0.7 * mask.sum()
    assert torch.equal(images, before)
    assert (result.dtype, result.shape, result.device.type) == (torch.uint8, images.shape, device)


@pytest.mark.parametrize("change", ["seed", "sample", "frame"])
def test_another_seed_sample_or_frame_is_augmented_in_another_way(change):
    images, mask, samples = batch(1, 24)
    images = images[:, :1, :1].expand(1, 2, 2, -1, -1, -1).contiguous()
    one = augment_images(images, mask, samples, 5, share=1.0)[0].flatten(0, 1)
    if change == "frame":
        assert all(not torch.equal(one[0], other) for other in one[1:])
    else:
        other = augment_images(images, mask, samples + (change == "sample"), 5 + (change == "seed"), share=1.0)
        assert all(not torch.equal(a, b) for a, b in zip(one, other[0].flatten(0, 1), strict=True))


def test_frames_worked_on_together_are_as_those_worked_on_alone_to_rounding():
    recipes = [draw_recipe(2, sample, 0, 1.0) for sample in range(60)]
    frames = smooth(48, len(recipes))
    together = carry_out(recipes, frames.clone())
    alone = torch.cat([apply(frame[None], *recipe) for frame, recipe in zip(frames, recipes, strict=True)])
    assert {step.op for recipe in recipes for step in recipe} == RANGES.keys()
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize("size", [1, 8, 65, REFERENCE])
@pytest.mark.parametrize("op", RANGES)
def test_every_operation_keeps_shape_and_range_at_both_ends_and_any_size(op, size, end):
    frames = smooth(size)
    result = apply(frames, Step(op, RANGES[op][end], seed=1, angle=30.0, direction=1.0))
    assert result.shape == frames.shape
    assert result.isfinite().all()
    assert 0 <= result.min() <= result.max() <= 1


@settings(max_examples=40, deadline=None)
@given(
    order=st.permutations(list(JITTER)),
    at=st.tuples(*[st.floats(low, high) for low, high in JITTER.values()]),
)
def test_jitter_is_that_of_torchvision(order, at):
    factors = dict(zip(JITTER, at, strict=True))
    expected = frames = smooth(32)
    for op in order:
        expected = getattr(torchvision, f"adjust_{op}")(expected, factors[op])
    result = apply(frames, *(Step(op, factors[op]) for op in order))
    torch.testing.assert_close(result, expected, rtol=0, atol=1 / 255)


SPREADS = {  # of noise of scale s, values of 0 to 1: its standard deviation
    "gaussian_noise": lambda s: s,
    "laplace_noise": lambda s: 2**0.5 * s,
    "poisson_noise": lambda s: (s / 255 + s**2) ** 0.5,  # E[n²] = mean + mean² of a count with either sign
}


@pytest.mark.parametrize("scale", [0.01, STRONGEST_NOISE])
@pytest.mark.parametrize("op", NOISES)
def test_noise_has_mean_zero_and_its_published_spread(op, scale):
    noise = apply(torch.full((1, 3, 128, 128), 0.5), Step(op, scale, seed=3)) - 0.5
    assert abs(noise.mean()) < 5 * SPREADS[op](scale) / noise.numel() ** 0.5
    assert noise.std().item() == pytest.approx(SPREADS[op](scale), rel=0.03)


def test_laplace_noise_has_heavier_tails_than_gaussian_and_poisson_noise_is_whole_levels():
    grey = torch.full((1, 3, 128, 128), 0.5)
    gaussian, laplace, poisson = (apply(grey, Step(op, 0.03, seed=3)) - 0.5 for op in NOISES)
    kurtosis = [(noise**4).mean() / (noise**2).mean() ** 2 for noise in (gaussian, laplace)]
    assert kurtosis == pytest.approx([3, 6], rel=0.1)
    levels = poisson * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)
    counts = levels.abs().round().to(torch.int64).flatten().bincount(minlength=30) / levels.numel()
    expected = torch.distributions.Poisson(0.03 * 255).log_prob(torch.arange(len(counts)).float()).exp()
    torch.testing.assert_close(counts, expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("op", NOISES)
def test_grey_noise_is_the_same_in_all_colours_and_other_noise_is_not(op):
    for grey in (True, False):
        noise = apply(torch.full((1, 3, 16, 16), 0.5), Step(op, 0.04, seed=3, grey=grey))[0]
        assert torch.equal(noise[0], noise[1]) == torch.equal(noise[1], noise[2]) == grey


@pytest.mark.parametrize("op", BLURS)
def test_a_blur_keeps_a_plain_frame_and_makes_another_smoother(op):
    step = Step(op, BLURS[op][1], angle=20.0, direction=0.5)
    plain = torch.full((1, 3, 96, 96), 0.4)
    torch.testing.assert_close(apply(plain, step), plain, rtol=0, atol=1e-5)
    noisy = torch.rand(1, 3, REFERENCE, REFERENCE, generator=torch.Generator().manual_seed(0))
    assert apply(noisy, step).var() < 0.3 * noisy.var()


REFERENCES = {  # what SciPy makes of a frame (H, W)
    "gaussian_blur": (2.5, lambda x: ndimage.gaussian_filter(x, 2.5, mode="nearest", radius=9)),
    "average_blur": (5, lambda x: ndimage.uniform_filter(x, 5, mode="nearest")),
    "median_blur": (5, lambda x: ndimage.median_filter(x, 5, mode="mirror")),
    "motion_blur": (9, lambda x: ndimage.uniform_filter1d(x, 9, axis=1, mode="nearest")),
}


@pytest.mark.parametrize("op", BLURS)
def test_blurs_are_those_of_scipy(op):
    extent, reference = REFERENCES[op]
    frames = torch.rand(1, 3, REFERENCE, REFERENCE, generator=torch.Generator().manual_seed(0))
    expected = np.stack([reference(channel) for channel in frames[0].numpy()])
    result = apply(frames, Step(op, extent))[0]
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("angle", [0, 45, 90, 135])
def test_a_motion_smears_a_point_along_its_angle(angle):
    smeared = apply(point(REFERENCE), Step("motion_blur", 21, angle=float(angle)))[0, 0]
    down, right = (smeared > 0.01).nonzero().sub(REFERENCE // 2).T.double()
    along = right * np.cos(np.radians(angle)) - down * np.sin(np.radians(angle))  # angles turn counter-clockwise
    across = right * np.sin(np.radians(angle)) + down * np.cos(np.radians(angle))
    assert across.abs().max() < 1
    assert along.max() - along.min() == pytest.approx(20, abs=1)


@pytest.mark.parametrize("op", ["gaussian_blur", "average_blur", "motion_blur"])
def test_blurs_are_as_wide_for_their_frame_at_any_size(op):
    widths = []
    for size in (128, REFERENCE):
        spread = apply(point(size), Step(op, BLURS[op][1]))[0, 0]
        places = torch.arange(size) - size // 2
        widths.append(((spread.sum(0) * places**2).sum() / spread.sum()).sqrt().item() / size)
    assert widths[0] == pytest.approx(widths[1], rel=0.3)


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ({"images": torch.zeros(2, 2, 2, 8, 8, 3)}, r"images are \(2, 2, 2, 8, 8, 3\) torch.float32"),
        ({"mask": torch.ones(2, 2, 1).bool()}, r"their mask is \(2, 2, 1\)"),
        (
            {"samples": np.arange(3)},
            r"2 windows have sample numbers of shape \(3,\)\n  fix: give the number of each window, \(2,\)",
        ),
        ({"share": 1.5}, "share of augmented frames is 1.5\n  fix: give a number from 0 to 1"),
        ({"seed": -1}, "seed is -1\n"),
    ],
    ids=["type", "mask", "samples", "share", "seed"],
)
def test_what_does_not_fit_is_refused_by_name(broken, problem):
    images, mask, samples = batch(2, 8)
    with pytest.raises(RdtError, match=problem):
        augment_images(**{"images": images, "mask": mask, "samples": samples, "seed": 0, **broken})
