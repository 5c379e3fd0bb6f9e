"""One rank of a step that several share: begun by test_training_ranks.py with the variables of torchrun."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from batch_rows import rows_of
from safetensors.torch import save_file

from rdt_data import Feed
from rdt_model.run_config import load_run
from rdt_model.run_data import facts_of
from rdt_model.training_batch import BatchMaker
from rdt_model.training_setup import build
from rdt_model.training_step import Rows, Stepper

CHANGES = (
    *("batch_size=8", "draws=2", "model.size=tiny", "model.hidden_size=16", "model.depth=2", "model.horizon=4"),
    "model.keypoints={image_size: 32, keypoints: 4, token_dim: 8, channels: [8, 8]}",
    *("noise.images=0", "optimiser.learning_rate=0.1", "optimiser.warmup_steps=0"),
)


def main(store: str, out: str, accumulate: int) -> None:
    """Three steps on this rank's share of each batch of 8, in `accumulate` passes; saves weights and losses."""
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    rank, ranks = accelerator.process_index, accelerator.num_processes
    config = load_run(None, list(CHANGES), data=[store], out="unused")
    facts = facts_of(config.load_mixture())
    module = build(config, ("exterior",), facts["demo"].empty.shape[1], print)
    maker = BatchMaker(config, facts, ("exterior",), 1000, torch.device("cpu"))
    # Not AdamW: it makes a step of full size of a gradient that is nothing but rounding.
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    wrapped, prepared = accelerator.prepare(module, optimiser)
    stepper = Stepper(accelerator, wrapped, prepared, config)
    losses = []
    options = {"horizon": 4, "history": 2, "image_size": 32, "cameras": ("exterior",)}
    with Feed(config.load_mixture(), batch_size=8, producers=0, shuffle_gb=0.01, **options) as feed:
        for step in range(3):
            whole = next(feed)
            mine = range(rank, 8, ranks)
            passes = [list(mine)[number::accumulate] for number in range(accumulate)]
            result = stepper(step, [(maker(rows_of(whole, rows)), Rows.of(whole)) for rows in passes], lambda: None)
            sums = accelerator.reduce(torch.stack([result.loss, torch.tensor(float(result.numbers))]), "sum")
            losses.append(sums[0] / sums[1])
    if accelerator.is_main_process:
        state = accelerator.unwrap_model(wrapped).state_dict()
        save_file({**state, "losses": torch.stack(losses)}, Path(out))
    accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
