"""The loop of a run: what is made before it, what one turn does, what is kept after it.

In: a `RunConfig` and, to go on, a `Restored`. Out: a `TrainResult`, and the folder of the run. Batches of the next step
are made while a GPU works on this one, except where a checkpoint follows: it holds the feed as it is after its step.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from rdt_data import Feed
from rdt_model import checkpoint_folder, training_state
from rdt_model.adapters import merged_state
from rdt_model.background import Background
from rdt_model.ema import MovingAverage
from rdt_model.optimiser import make_optimiser, named_state, restore_optimiser
from rdt_model.ranks import full, gathered
from rdt_model.rates import Rates
from rdt_model.run_config import FILE, PARAMETERS, RunConfig
from rdt_model.run_data import cameras_of, facts_of, one_language
from rdt_model.stop_signal import StopSignal
from rdt_model.training_batch import BatchMaker, TrainingBatch
from rdt_model.training_log import RunLog
from rdt_model.training_module import TrainingModule
from rdt_model.training_setup import accelerate, build, parameter_counts, parameter_list, trained
from rdt_model.training_state import Restored, Snapshot
from rdt_model.training_step import Rows, Stepper, Watch
from rdt_model.validation import Validation, held_out

Batches = list[tuple[TrainingBatch, Rows]]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """steps: done in all; stopped: the signal that ended the run early, or None. wait_share: of the time, for data."""

    out: str
    checkpoint: str
    steps: int
    stopped: str | None
    seconds: float
    wait_share: float
    numbers: Mapping[str, float]


class Training:
    """One run. report: called with a step and its numbers; tell: with lines about the run, before it begins."""

    def __init__(
        self,
        config: RunConfig,
        restored: Restored | None,
        report: Callable[[int, Mapping[str, float]], None],
        tell: Callable[[str], None],
    ) -> None:
        self.config, self.report, self.tell, self.out = config, report, tell, Path(config.out)
        self.start = restored.step if restored else 0
        self.accelerator: Accelerator = accelerate(config)
        self.mixture = config.load_mixture()
        self.facts = facts_of(self.mixture)
        self.cameras = cameras_of(config.model, self.facts)
        self.notes: list[str] = []
        self.logged: dict[str, float] = {}
        self._ahead: Batches | None = None
        module = build(config, self.cameras, one_language(self.facts), self.notes.append)
        if restored:
            training_state.put(restored.weights, _own(module), restored.folder)
        self.feed = self._feed(module, restored)
        self._prepare(module, restored)
        self.maker = BatchMaker(
            config, self.facts, self.cameras, module.net.config.noise.num_train_timesteps, self.accelerator.device
        )
        self.validation = self._validation(module)

    def _prepare(self, module: TrainingModule, restored: Restored | None) -> None:
        optimiser = make_optimiser(self.config.optimiser, trained(module).values(), self.accelerator.device)
        wrapped, self.optimiser = self.accelerator.prepare(module, optimiser)
        self.module: TrainingModule = self.accelerator.unwrap_model(wrapped)
        self.live = trained(self.module)
        self.average = MovingAverage(self.live, self.config.ema)
        self.watch = Watch(restored.counters if restored else None)
        if restored:
            restore_optimiser(self.optimiser.optimizer, self.live, restored.optimiser)
            self.average.load(restored.averages, restored.step)
        self.stepper = Stepper(self.accelerator, wrapped, self.optimiser, self.config)

    def _feed(self, module: TrainingModule, restored: Restored | None) -> Feed:
        part = self.config.feed
        feed = Feed(
            self.mixture,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            horizon=self.config.model.horizon,
            history=self.config.model.history,
            image_size=module.encoder.form.size,
            producers=part.producers,
            remote_producers=part.remote_producers,
            ray=part.ray,
            shuffle_gb=part.shuffle_gb,
            cameras=self.cameras,
            on_bad=part.on_bad,
            run_steps=part.run_steps,
        )
        if restored:
            feed.load_state_dict(restored.feeds)
        return feed

    def _validation(self, module: TrainingModule) -> Validation | None:
        if not self.config.validation.every:
            return None
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        batches = held_out(self.mixture, self.config, module.encoder.form.size, self.cameras, rank, ranks)
        return Validation(batches, self.maker, self.facts, self.config)

    def run(self) -> TrainResult:
        """Train until the last step, or until a signal; both end with a checkpoint."""
        self._write_about()
        self.rates = Rates(
            self.config.batch_size * self.config.accumulate * self.accelerator.num_processes, self.config.draws
        )
        with StopSignal() as stop, Background() as writer, self._log() as log, self.feed:
            done, stopped = self._loop(stop, writer, log)
        return TrainResult(
            out=str(self.out),
            checkpoint=str(self.out / "checkpoints" / f"step-{done:08d}"),
            steps=done,
            stopped=stopped if done < self.config.steps else None,
            seconds=self.rates.seconds,
            wait_share=self.rates.wait_share,
            numbers=self.logged,
        )

    def _loop(self, stop: StopSignal, writer: Background, log: "RunLog | _Silent") -> tuple[int, str | None]:
        """Steps done, and the signal that ended them early."""
        config, done, stopped = self.config, self.start, None
        while done < config.steps and stopped is None:
            stopped = self._agreed(stop)
            done += 1
            last = done == config.steps or stopped is not None
            saves = last or done % config.checkpoint.every == 0
            ready = self._ready()
            result = self.stepper(done - 1, ready, _nothing if saves else self._prefetch)
            self.average.step()
            self.rates.add(result)
            self.watch(done, float(result.loss) / max(result.numbers, 1), [rows for _, rows in ready])
            if done % config.log_every == 0 or last:
                self.logged = self._say(done, self.rates.numbers(self.accelerator, self.feed), log)
            if self.validation and (done % config.validation.every == 0 or last):
                self._say(done, self._validate(), log)
            if saves:
                snapshot = self._snapshot(done)
                if self.accelerator.is_main_process:
                    writer(partial(self._write, snapshot))
            self.rates.went_on()
        return done, stopped

    def _ready(self) -> Batches:
        """The batches of the next step, whether they were made ahead or not."""
        if self._ahead is None:
            self._prefetch()
        ready, self._ahead = self._ahead, None
        assert ready is not None
        return ready

    def _prefetch(self) -> None:
        """Make the batches of the next step."""
        self._ahead = []
        for _ in range(self.config.accumulate):
            with self.rates.waiting():
                batch = next(self.feed)
            self._ahead.append((self.maker(batch), Rows.of(batch)))

    def _validate(self) -> dict[str, float]:
        """Raw weights and averages."""
        assert self.validation is not None
        found = {f"validation/{k}": v for k, v in self.validation(self.module, self.accelerator).items()}
        with self.average.applied():
            averaged = self.validation(self.module, self.accelerator)
        return found | {f"validation_ema/{k}": v for k, v in averaged.items()}

    def _say(self, step: int, numbers: dict[str, float], log: "RunLog | _Silent") -> dict[str, float]:
        log(step, numbers)
        if self.accelerator.is_main_process:
            self.report(step, numbers)
        return numbers

    def _snapshot(self, step: int) -> Snapshot:
        """Everything of this moment, on the CPU; every rank takes part."""
        with self.average.applied():
            merged = {name: full(value) for name, value in _own(self.module, merged=True).items()}
        policies = {
            name: store.policy(self.config.model, self.cameras, normalised=self.config.normalises)
            for name, store in sorted(self.facts.items(), key=lambda item: -self.mixture.shares[item[0]])
        }
        return Snapshot(
            step=step,
            config=self.config,
            model=self.module.net.config,
            weights={name: full(value) for name, value in _own(self.module).items()},
            averages={name: full(value) for name, value in self.average.averages().items() if name not in merged},
            optimiser={
                name: {key: full(value) for key, value in state.items()}
                for name, state in named_state(self.optimiser.optimizer, self.live).items()
            },
            counters=self.watch.counters(),
            feeds=gathered(self.accelerator, self.feed.state_dict()),
            policies=policies,
            merged=merged,
            statistics={name: store.statistics for name, store in self.facts.items()},
        )

    def _write(self, snapshot: Snapshot) -> None:
        checkpoint_folder.write_checkpoint(
            self.out / "checkpoints",
            snapshot.step,
            lambda folder: training_state.write(folder, snapshot),
            keep=self.config.checkpoint.keep,
        )

    def _write_about(self) -> None:
        if self.accelerator.is_main_process:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / FILE).write_text(self.config.to_yaml(), encoding="utf-8")
            listed = parameter_list(self.module)
            (self.out / PARAMETERS).write_text(
                "".join([listed, *(f"{note}\n" for note in self.notes)]), encoding="utf-8"
            )
            for line in (*self.notes, *parameter_counts(self.module), f"each parameter: {self.out / PARAMETERS}"):
                self.tell(line)

    def _log(self) -> "RunLog | _Silent":
        if not self.accelerator.is_main_process:
            return _Silent()
        about = self.config.model_dump(mode="json")
        return RunLog(self.out, self.start, tensorboard=self.config.tensorboard, wandb=self.config.wandb, config=about)

    def _agreed(self, stop: StopSignal) -> str | None:
        """The signal that any rank heard."""
        if self.accelerator.num_processes == 1:
            return stop.wanted
        heard = torch.tensor(float(stop.wanted is not None), device=self.accelerator.device)
        return (stop.wanted or "another rank's signal") if float(self.accelerator.reduce(heard)) else None


class _Silent:
    """The log of a rank that is not the first."""

    def __call__(self, step: int, numbers: Mapping[str, float]) -> None:
        pass

    def __enter__(self) -> "_Silent":
        return self

    def __exit__(self, *outcome: object) -> None:
        pass


def _nothing() -> None:
    pass


def _own(module: TrainingModule, *, merged: bool = False) -> dict[str, Any]:
    """The weights a checkpoint holds: all of the network, of the encoder those that are trained with it.

    merged: as a policy acts with them, adapters added to the weights they adapt.
    """
    net = merged_state(module.net) if merged else module.net.state_dict()
    state = {f"net.{name}": value for name, value in net.items()}
    if not module.encoder.frozen:
        state |= {f"encoder.{name}": value for name, value in module.encoder.state_dict().items()}
    return state
