"""Frames on their way into an encoder: resized as Pillow does, padded and coloured as published, in published order."""

import h5py
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rdt_data.errors import RdtError
from rdt_model.images import ImageEncoder, ImageFormat, prepare
from rdt_model.resize import resize

KERNELS = {"bilinear": 2, "bicubic": 3}
MEAN, STD = (0.48, 0.45, 0.41), (0.27, 0.26, 0.28)


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def published(frame: np.ndarray, form: ImageFormat) -> torch.Tensor:
    """The published preprocessing of one frame: Pillow pads, transformers' processor on Pillow does the rest."""
    kind = getattr(transformers, "SiglipImageProcessorPil", transformers.SiglipImageProcessor)
    processor = kind(
        size={"height": form.size, "width": form.size},
        image_mean=list(form.mean),
        image_std=list(form.std),
        resample=KERNELS[form.kernel],
    )
    height, width, _ = frame.shape
    side = max(height, width)
    square = Image.new("RGB", (side, side), tuple(int(mean * 255) for mean in processor.image_mean))
    square.paste(Image.fromarray(frame), ((side - width) // 2, (side - height) // 2))
    return torch.as_tensor(processor.preprocess(square, return_tensors="pt")["pixel_values"][0])


@settings(max_examples=60, deadline=None)
@given(
    side=st.integers(1, 90),
    size=st.integers(1, 70),
    kernel=st.sampled_from(sorted(KERNELS)),
    seed=st.integers(0, 1000),
)
def test_resizing_gives_the_pixels_of_pillow_bit_for_bit(side, size, kernel, seed):
    frames = noise(seed, 2, side, side, 3)
    frames[1] = np.where(frames[1] > 127, 255, 0)  # where bicubic overshoots most
    ours = resize(torch.from_numpy(frames), size, kernel)
    for frame, got in zip(frames, ours, strict=True):
        np.testing.assert_array_equal(got, Image.fromarray(frame).resize((size, size), KERNELS[kernel]))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("before", [640, 256, 96])
def test_resizing_to_384_gives_the_pixels_of_pillow_bit_for_bit(before, kernel):
    frame = noise(0, before, before, 3)
    expected = Image.fromarray(frame).resize((384, 384), KERNELS[kernel])
    np.testing.assert_array_equal(resize(torch.from_numpy(frame), 384, kernel), expected)


def test_an_unknown_kernel_is_refused_with_the_near_one():
    with pytest.raises(RdtError, match="no resize kernel is called 'bicubik'\n  fix: did you mean 'bicubic'"):
        resize(torch.zeros(2, 2, 3, dtype=torch.uint8), 4, "bicubik")


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (37, 50), (50, 37), (40, 40), (1, 9), (384, 384)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_frames_are_prepared_as_published(shape, kernel):
    frames = noise(1, 2, *shape, 3)
    form = ImageFormat(56, MEAN, STD, kernel)
    expected = torch.stack([published(frame, form) for frame in frames])
    torch.testing.assert_close(prepare(torch.from_numpy(frames), form), expected, rtol=0, atol=1e-6)


def test_real_frames_are_prepared_as_published(shared):
    with h5py.File(shared / "data/aloha_sim/transfer_cube_raw_120x160/episode_0.hdf5") as file:
        frames = file["observations/images/top"][::100]
    form = ImageFormat(384)
    expected = torch.stack([published(frame, form) for frame in frames])
    torch.testing.assert_close(prepare(torch.from_numpy(frames), form), expected, rtol=0, atol=1e-6)


def test_the_background_is_the_mean_cut_to_whole_numbers():
    assert ImageFormat(8).background == (127, 127, 127)
    assert ImageFormat(8, MEAN).background == (122, 114, 104)


def test_padding_is_the_background_and_keeps_the_frame_in_the_middle():
    form = ImageFormat(4, scale=1.0, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))  # values as they are, less one half
    white = torch.full((1, 1, 4, 3), 255, dtype=torch.uint8)
    rows = prepare(white, form)[0, 0, :, 0] + 0.5
    assert rows.tolist() == [127, 255, 127, 127]  # the odd row of three goes to the bottom


@pytest.mark.parametrize(
    "frames",
    [
        torch.zeros(1, 4, 4, 3),
        torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
        torch.zeros(4, 4, 3, dtype=torch.uint8),
        torch.zeros(1, 0, 4, 3, dtype=torch.uint8),
    ],
    ids=["float", "channels first", "one frame", "empty"],
)
def test_other_frames_are_refused(frames):
    with pytest.raises(RdtError, match=r"frames are \(.*torch\.") as caught:
        prepare(frames, ImageFormat(8))
    assert "(N, H, W, 3) torch.uint8" in caught.value.remedy


class Colours(ImageEncoder):
    """Two tokens an image: its mean colour times a weight, and the same plus one. Counts what it is asked for."""

    def __init__(self, *, frozen: bool, chunk: int = 0) -> None:
        super().__init__()
        self.form = ImageFormat(8, MEAN, STD)
        self.tokens_per_image, self.token_dim, self.has_positions = 2, 3, True
        self.frozen, self.chunk = frozen, chunk
        self.weight = torch.nn.Parameter(torch.ones(3), requires_grad=not frozen)
        self.encoded: list[int] = []

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        self.encoded.append(len(images))
        colour = images.mean((2, 3)) * self.weight
        return torch.stack([colour, colour + 1], 1)


def batch(present: list[list[list[int]]], size: tuple[int, int] = (6, 6)) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of one colour each, counted from 10 in published order; what is absent holds 255."""
    mask = torch.tensor(present).bool()
    colours = torch.where(mask, torch.arange(mask.numel()).view(mask.shape) + 10, 255).to(torch.uint8)
    return colours[..., None, None, None].expand(*mask.shape, *size, 3), mask


def expected_tokens(values: list[int | None], form: ImageFormat) -> torch.Tensor:
    """What `Colours` gives for one sample of frames of these values, None is the background."""
    rows = torch.tensor([form.background if value is None else [value] * 3 for value in values])
    colours = (rows / 255 - torch.tensor(form.mean)) / torch.tensor(form.std)
    return torch.stack([colours, colours + 1], 1).flatten(0, 1)


def test_tokens_are_ordered_by_time_then_camera_then_patch():
    encoder = Colours(frozen=True)
    tokens = encoder(*batch([[[1, 1, 1], [1, 1, 1]], [[1, 1, 1], [1, 1, 1]]]))
    first, second = ([*range(start, start + 6)] for start in (10, 16))
    expected = torch.stack([expected_tokens(first, encoder.form), expected_tokens(second, encoder.form)])
    assert tokens.shape == (2, 2 * 3 * 2, 3)
    torch.testing.assert_close(tokens, expected)


def test_frames_that_are_not_real_are_one_background_image_encoded_once():
    encoder = Colours(frozen=True)
    tokens = encoder(*batch([[[0, 1, 0], [1, 1, 0]], [[1, 0, 0], [1, 1, 0]]]))
    assert encoder.encoded == [6 + 1]
    expected = [[None, 11, None, 13, 14, None], [16, None, None, 19, 20, None]]
    torch.testing.assert_close(tokens, torch.stack([expected_tokens(row, encoder.form) for row in expected]))


def test_a_batch_without_any_real_frame_is_all_background():
    encoder = Colours(frozen=True)
    tokens = encoder(*batch([[[0, 0]], [[0, 0]]], (5, 9)))
    assert encoder.encoded == [1]
    torch.testing.assert_close(tokens, encoder.background().repeat(2, 2, 1))


def test_what_a_missing_frame_holds_changes_nothing():
    frames, mask = batch([[[1, 0], [0, 1]]])
    other = torch.where(mask[..., None, None, None], frames, 77)
    assert torch.equal(Colours(frozen=True)(frames, mask), Colours(frozen=True)(other, mask))


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_encoding_in_chunks_gives_the_same_tokens(chunk):
    frames, mask = batch([[[1, 0, 1], [1, 1, 1]]])
    encoder = Colours(frozen=True, chunk=chunk)
    torch.testing.assert_close(encoder(frames, mask), Colours(frozen=True)(frames, mask))
    assert max(encoder.encoded) <= chunk
    assert sum(encoder.encoded) == 6


@pytest.mark.parametrize("present", [[[[1, 1]]], [[[1, 0]]]], ids=["all real", "one missing"])
def test_a_frozen_encoder_has_no_gradient_but_an_adaptor_after_it_has(present):
    tokens = Colours(frozen=True)(*batch(present))
    assert not tokens.requires_grad
    adaptor = torch.nn.Linear(3, 4)
    adaptor(tokens).sum().backward()
    torch.testing.assert_close(adaptor.weight.grad, tokens.sum((0, 1)).expand(4, 3))


def test_the_gradient_of_a_trained_encoder_counts_the_background_as_often_as_it_is_used():
    encoder = Colours(frozen=False)
    frames, mask = batch([[[1, 0, 0]]])
    encoder(frames, mask).sum().backward()
    colours = expected_tokens([10, None, None], encoder.form).view(3, 2, 3)[:, 0]
    torch.testing.assert_close(encoder.weight.grad, 2 * colours.sum(0))


def test_frames_and_mask_that_do_not_fit_are_refused():
    frames, mask = batch([[[1, 1], [1, 1]]])
    with pytest.raises(RdtError, match=r"frames are \(1, 2, 2, 6, 6, 3\), their mask is \(1, 2, 1\)"):
        Colours(frozen=True)(frames, mask[..., :1])
