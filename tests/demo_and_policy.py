"""Demo data as a store with a policy for it, and commands run in this process."""

import contextlib
import io
import sys
from pathlib import Path

import torch

import cli.data
import cli.train
from converters.demo_data import write_demo_data
from rdt_data.language import language_of
from rdt_data.layout import CAMERAS
from rdt_data.store import open_dataset
from rdt_model import RDT, config_of_size
from rdt_model.encoders import load_image_encoder
from rdt_model.keypoints import KeypointConfig
from rdt_model.policy_files import PolicyConfig, slots_of, write_policy

SIZES = KeypointConfig(image_size=16, keypoints=4, token_dim=8, channels=(8, 8))


def run(program: str, *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and messages of a command."""
    before, sys.argv = sys.argv, [program, *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            {"rdt": cli.train, "rdt-data": cli.data}[program].main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = before
    return code, out.getvalue(), err.getvalue()


def demo_and_policy(folder: Path, t5: Path, *, episodes: int, horizon: int, cameras: tuple[str, ...] = CAMERAS) -> Path:
    """Write demo data as `store.zarr`, its words embedded, and an untrained policy for it into `policy`."""
    write_demo_data(folder / "raw", episodes=episodes, seed=0, formats=("aloha",))
    for arguments in (
        ["convert", folder / "raw" / "demo_aloha", folder / "store.zarr"],
        ["embed-lang", folder / "store.zarr", "--model", t5],
    ):
        assert run("rdt-data", *arguments)[0] == 0
    dataset = open_dataset(str(folder / "store.zarr"))
    episode, width = dataset[0], language_of(dataset).dim
    torch.manual_seed(0)
    sizes = {"pred_horizon": horizon, "lang_token_dim": width, "img_token_dim": 8, "max_lang_cond_len": 64}
    net = RDT(config_of_size("tiny", **sizes, depth=2, frames=2, cameras=len(cameras), patches=4))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    config = PolicyConfig(
        dataset=dataset.name,
        spec_text=dataset.spec_text,
        control_hz=dataset.control_hz,
        state_slots=slots_of(episode.state_mask),
        action_slots=slots_of(episode.action_mask),
        cameras=cameras,
        image_encoder="keypoints",
        keypoints=SIZES,
    )
    write_policy(folder / "policy", config, net, load_image_encoder("keypoints", keypoints=SIZES))
    return folder
