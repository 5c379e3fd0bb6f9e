"""SigLIP, T5 and keypoints behind their two functions; the tiny models are written as transformers writes real ones."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from rdt_data.errors import RdtError
from rdt_model.encoders import SiglipEncoder, load_image_encoder, load_language_encoder
from rdt_model.images import ImageFormat, prepare
from rdt_model.keypoints import KeypointConfig, spatial_softmax
from stats.seeded_t5 import write_seeded_t5

VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 30,
    "patch_size": 7,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 8,
    "max_position_embeddings": 4,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
MEAN, STD = [0.48, 0.45, 0.41], [0.27, 0.26, 0.28]


def write_siglip(folder: Path, *, whole: bool = True, **processor: object) -> torch.nn.Module:
    """A tiny SigLIP with seeded weights: both towers, as on the hub, or the vision tower alone. Returns the tower."""
    torch.manual_seed(0)
    if whole:
        config = transformers.SiglipConfig(vision_config=VISION, text_config=TEXT)
        model = transformers.SiglipModel(config)
    else:
        model = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**VISION))
    model.save_pretrained(folder)
    options = {"size": {"height": 30, "width": 30}, "image_mean": MEAN, "image_std": STD, **processor}
    transformers.SiglipImageProcessor(**options).save_pretrained(folder)
    return (model.vision_model if whole else model).eval()


@pytest.fixture(scope="module")
def siglip(tmp_path_factory) -> tuple[str, torch.nn.Module]:
    folder = tmp_path_factory.mktemp("siglip")
    return str(folder), write_siglip(folder)


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("t5") / "model"
    write_seeded_t5(folder)
    return str(folder)


def frames(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8))


def test_importing_the_encoders_does_not_import_transformers():
    program = "import sys, rdt_model.encoders; print('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"False\n"


def test_sizes_and_colours_of_siglip_come_from_its_files(siglip):
    encoder = load_image_encoder(siglip[0])
    assert (encoder.tokens_per_image, encoder.token_dim) == (4 * 4, 32)  # 30 pixels hold 4 whole patches of 7
    assert (encoder.form.size, encoder.form.kernel) == (30, "bicubic")
    assert (list(encoder.form.mean), list(encoder.form.std)) == (MEAN, STD)
    assert encoder.form.background == (122, 114, 104)
    assert encoder.position_grid(2, 3) == (("image", (2, 3, -16)),)


def test_so400m_at_384_pixels_gives_27_by_27_tokens():
    config = transformers.SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=27,
        num_attention_heads=16,
        image_size=384,
        patch_size=14,
    )
    with torch.device("meta"):  # shapes without numbers
        encoder = SiglipEncoder(transformers.SiglipVisionModel(config), ImageFormat(384))
        tokens = encoder.encode(torch.empty(6, 3, 384, 384))
    assert (encoder.tokens_per_image, encoder.token_dim) == (729, 1152)
    assert tokens.shape == (6, 729, 1152)
    assert encoder.position_grid(2, 3) == (("image", (2, 3, -729)),)  # as published


@pytest.mark.parametrize("whole", [True, False], ids=["both towers", "the vision tower"])
def test_tokens_are_the_last_hidden_state_of_the_vision_tower(tmp_path, whole):
    tower = write_siglip(tmp_path, whole=whole)
    encoder, seen = load_image_encoder(str(tmp_path)), frames(2, 2, 3, 20, 26)
    with torch.no_grad():
        images = prepare(seen.flatten(0, 2), encoder.form)
        expected = tower(pixel_values=images).last_hidden_state.reshape(2, -1, 32)
    tokens = encoder(seen, torch.ones(2, 2, 3, dtype=torch.bool))
    assert tokens.shape == (2, 2 * 3 * 16, 32)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-5)


def test_the_same_frames_give_the_same_tokens_and_a_missing_camera_those_of_the_background(siglip):
    encoder, seen = load_image_encoder(siglip[0], chunk=2), frames(2, 2, 3, 20, 26)
    mask = torch.tensor([True, False, True]).expand(2, 2, 3)
    tokens = encoder(seen, mask)
    assert torch.equal(tokens, encoder(seen, mask))
    images = tokens.view(2, 2, 3, 16, 32)
    torch.testing.assert_close(images[:, :, 1], encoder.background().expand(2, 2, 16, 32), rtol=0, atol=1e-5)
    whole = encoder(seen, torch.ones_like(mask)).view(2, 2, 3, 16, 32)
    torch.testing.assert_close(images[:, :, ::2], whole[:, :, ::2], rtol=0, atol=1e-5)


def test_a_frozen_siglip_trains_nothing_and_a_trained_one_everything_it_holds(siglip):
    seen, mask = frames(1, 1, 1, 30, 30), torch.ones(1, 1, 1, dtype=torch.bool)
    frozen = load_image_encoder(siglip[0]).train()
    assert not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    torch.nn.Linear(32, 4)(frozen(seen, mask)).sum().backward()

    trained = load_image_encoder(siglip[0], frozen=False).train()
    assert trained.training
    trained(seen, mask).square().sum().backward()
    without = [name for name, parameter in trained.named_parameters() if parameter.grad is None]
    assert without == []


def test_siglip_in_bfloat16_is_near_float32(siglip):
    encoder, seen = load_image_encoder(siglip[0], dtype=torch.bfloat16), frames(3, 30, 30)
    tokens = encoder.encode_frames(seen)
    assert tokens.dtype == torch.bfloat16
    torch.testing.assert_close(tokens.float(), load_image_encoder(siglip[0]).encode_frames(seen), rtol=0, atol=0.1)


def test_a_preprocessor_of_another_size_is_refused(tmp_path):
    write_siglip(tmp_path, size={"height": 28, "width": 28})
    with pytest.raises(RdtError, match="images have 30 pixels, its preprocessor makes 28") as caught:
        load_image_encoder(str(tmp_path))
    assert "preprocessor_config.json of the same model" in caught.value.remedy


@pytest.mark.parametrize("change", [{"do_normalize": False}, {"resample": 0}], ids=["no normalisation", "nearest"])
def test_a_preprocessor_that_does_something_else_is_refused(tmp_path, change):
    write_siglip(tmp_path, **change)
    with pytest.raises(RdtError, match=r"preprocessor_config\.json has size 30 x 30"):
        load_image_encoder(str(tmp_path))


def test_siglip_with_missing_weights_is_refused(tmp_path):
    write_siglip(tmp_path, whole=False)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(RdtError, match=r"16 weights of the encoder are not in its files, .*layers\.2"):
        load_image_encoder(str(tmp_path))


def test_a_model_of_another_kind_is_refused_by_both(siglip, t5):
    with pytest.raises(RdtError, match="is a model of type 't5'\n  fix: give a SigLIP"):
        load_image_encoder(t5)
    with pytest.raises(RdtError, match="is a model of type 'siglip'\n  fix: give a T5"):
        load_language_encoder(siglip[0])


def test_a_directory_without_a_model_is_refused(tmp_path):
    with pytest.raises(RdtError, match="cannot be loaded") as caught:
        load_image_encoder(str(tmp_path))
    assert "check its files: config.json, weights, and preprocessor_config.json" in caught.value.remedy


def test_language_tokens_are_those_of_t5_and_do_not_depend_on_the_batch(t5):
    encoder = load_language_encoder(t5, dtype=torch.float32)
    texts = ["pick up the red block", "", "open"]
    tokens, mask = encoder(texts)
    assert tokens.shape == (3, 22, 64)  # bytes, and the end
    assert mask.sum(1).tolist() == [22, 1, 5]
    assert not tokens[~mask].any()
    model = transformers.T5EncoderModel.from_pretrained(t5).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5)
    for row, text in enumerate(texts):
        with torch.no_grad():
            expected = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        torch.testing.assert_close(tokens[row][mask[row]], expected, rtol=0, atol=1e-5)


def test_the_language_encoder_is_frozen_and_an_adaptor_after_it_is_not(t5):
    encoder = load_language_encoder(t5).train()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not any(module.training for module in encoder.modules())
    tokens, _ = encoder(["open"])
    assert tokens.dtype == torch.bfloat16
    torch.nn.Linear(64, 4)(tokens.float()).sum().backward()


def test_an_instruction_that_is_too_long_is_refused(t5):
    with pytest.raises(RdtError, match="an instruction has 22 tokens, the network takes 10: 'pick up the red block'"):
        load_language_encoder(t5, max_length=10)(["open", "pick up the red block"])


def test_a_t5_without_its_vocabulary_is_refused(tmp_path):
    write_seeded_t5(tmp_path / "model")
    config = tmp_path / "model" / "tokenizer_config.json"
    config.write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))
    with pytest.raises(RdtError, match="the tokenizer does not know") as caught:
        load_language_encoder(str(tmp_path / "model"))(["pick up the red block"])
    assert "spiece.model" in caught.value.remedy


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    write_seeded_t5(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    model = transformers.T5EncoderModel(transformers.T5Config(**{**json.loads(config.read_text()), "vocab_size": 50}))
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(RdtError, match="the tokenizer has 384 tokens, the weights of T5 have 50"):
        load_language_encoder(str(tmp_path / "model"))


def test_the_spatial_softmax_of_a_peak_is_the_centre_of_its_cell():
    maps = torch.full((1, 2, 3, 4), -1e4)
    maps[0, 0, 0, 0] = maps[0, 1, 2, 1] = 1e4
    torch.testing.assert_close(spatial_softmax(maps)[0], torch.tensor([[-0.75, -2 / 3], [-0.25, 2 / 3]]))
    torch.testing.assert_close(spatial_softmax(torch.zeros(3, 4, 6)), torch.zeros(3, 2))


def test_keypoints_have_the_interface_of_every_encoder():
    config = KeypointConfig(image_size=24, keypoints=5, token_dim=12, channels=(8, 16))
    encoder = load_image_encoder("keypoints", keypoints=config)
    tokens = encoder(frames(2, 2, 3, 30, 40), torch.tensor([True, True, False]).expand(2, 2, 3))
    assert tokens.shape == (2, 2 * 3 * 5, 12)
    assert encoder.position_grid(2, 3) == (("image", (2, 3, 5)),)
    torch.testing.assert_close(tokens[0, -5:], encoder.background())
    tokens.square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_keypoints_keep_their_digits_under_autocast():
    torch.manual_seed(0)
    encoder = load_image_encoder("keypoints", keypoints=KeypointConfig(image_size=24, channels=(8, 8)))
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder.encode_frames(frames(1, 24, 24)).dtype == torch.float32


@pytest.mark.parametrize("channels", [(32,), (32, 12), ()])
def test_channels_that_do_not_divide_into_groups_are_refused(channels):
    with pytest.raises(RdtError, match="channels of the keypoint encoder are"):
        KeypointConfig(channels=channels)


def discs(count: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with a red and a blue disc; (count, size, size, 3) uint8 and the place of the red one, (count, 2)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(60, 140, (count, size, size, 3), np.uint8)
    places = rng.uniform(-0.7, 0.7, (2, count, 2))
    centres = (2 * np.arange(size) + 1) / size - 1
    for place, colour in zip(places, ([30, 30, 230], [230, 30, 30]), strict=True):  # blue, then red on top
        away = (centres[None, None, :] - place[:, None, None, 0]) ** 2 + (
            centres[:, None] - place[:, None, None, 1]
        ) ** 2
        images[away < 0.2**2] = colour
    return torch.from_numpy(images), torch.from_numpy(places[1]).float()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small steps on a busy machine wait for each other's threads longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_keypoints_learn_where_the_red_disc_is():
    torch.manual_seed(0)
    config = KeypointConfig(image_size=32, keypoints=4, token_dim=8, channels=(16, 16))
    encoder = load_image_encoder("keypoints", keypoints=config)
    head = torch.nn.Linear(4 * 8, 2)
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 3e-3)
    for step in range(120):
        images, places = discs(32, 32, seed=step)
        loss = (head(encoder.encode_frames(images).flatten(1)) - places).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    images, places = discs(256, 32, seed=10_000)
    with torch.no_grad():
        error = (head(encoder.encode_frames(images).flatten(1)) - places).norm(dim=1).mean()
    assert error < 0.1  # of an image 2 wide; not knowing gives 0.55
