"""Frames: probing reads what decoding gives, cut images are named, exchanged channels come out right."""

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rdt_data.images import ImageError, decode, encode_jpeg, encode_png, fitted_size, probe, resize

IMAGES = arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)))
ENCODERS = {"jpeg": encode_jpeg, "png": encode_png}


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("codec", ENCODERS)
@given(pixels=IMAGES)
def test_probe_says_what_decoding_gives(codec, pixels):
    data = ENCODERS[codec](pixels)
    seen = probe(data)
    assert (seen.codec, seen.height, seen.width, seen.channels, seen.bits) == (codec, *pixels.shape[:2], 3, 8)
    assert decode(data).shape == pixels.shape


@given(pixels=IMAGES)
def test_png_keeps_every_pixel(pixels):
    np.testing.assert_array_equal(decode(encode_png(pixels)), pixels)


@pytest.mark.parametrize("codec", ENCODERS)
def test_an_image_cut_anywhere_is_refused(codec):
    data = ENCODERS[codec](smooth())
    for cut in range(len(data)):
        with pytest.raises(ImageError):
            probe(data[:cut])


def test_what_is_no_image_is_named_by_its_first_bytes():
    with pytest.raises(ImageError, match=r"neither JPEG nor PNG.*47 49 46"):
        probe(b"GIF89a and more")


def test_exchanged_channels_are_put_right_and_stored_exchanged():
    pixels = smooth()
    exchanged = encode_jpeg(np.ascontiguousarray(pixels[..., ::-1]), 95)
    assert encode_jpeg(pixels, 95, swapped=True) == exchanged
    assert np.abs(decode(exchanged, swapped=True).astype(int) - pixels).mean() < 6


def test_decoding_equals_imagecodecs():
    """The codec is named as imagecodecs names it, so the pixels must be the same."""
    data = encode_jpeg(smooth(), 90)
    np.testing.assert_array_equal(decode(data), imagecodecs.jpeg8_decode(data))
    np.testing.assert_array_equal(decode(encode_png(smooth())), imagecodecs.png_decode(encode_png(smooth())))


def test_a_grey_jpeg_becomes_three_equal_channels():
    grey = imagecodecs.jpeg8_encode(np.ascontiguousarray(smooth()[..., 0]))
    assert probe(grey).channels == 1
    decoded = decode(grey)
    assert decoded.shape == (48, 64, 3)
    assert (decoded[..., 0] == decoded[..., 2]).all()


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), longest=st.integers(8, 1000))
def test_fitting_never_enlarges_and_reaches_the_longest_side(height, width, longest):
    fitted = fitted_size(height, width, longest)
    assert max(fitted) == min(longest, max(height, width))
    assert fitted_size(*fitted, longest) == fitted
    assert resize(np.zeros((4, 4, 3), np.uint8), *fitted_size(4, 4, longest)).shape == (4, 4, 3)
