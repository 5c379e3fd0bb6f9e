"""What a finished run left behind: its folder, what `rdt eval --json` and `rdt sample` said of it, a video.

In: where these lie. Out: a `RunRecord`. A part of the run's folder that is not there is None or empty, since a run that
was killed early is worth a page too; what was named and cannot be read is an error. Knows nothing of pages.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from rdt_data.errors import RdtError
from rdt_data.yaml_model import parse_yaml
from rdt_model.eval_run import POLICY, EvalReport
from rdt_model.offline import SampleReport
from rdt_model.run_config import FILE, PARAMETERS
from rdt_model.training_log import METRICS, read_metrics

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """config: of run.yaml, config_text: as written. parameters: first line of parameters.txt. metrics: lines by step.

    traces: names and texts of the sample's episode_<n>.svg, in their order.
    """

    folder: Path
    config: Mapping[str, Any]
    config_text: str | None
    parameters: str | None
    metrics: Sequence[Mapping[str, Any]]
    evaluation: EvalReport | None
    sample: SampleReport | None
    traces: Sequence[tuple[str, str]]
    video: Path | None

    def curve(self, key: str) -> tuple[list[int], list[float]]:
        """Steps and values of one number of the log, where it is finite."""
        known = [(line["step"], line[key]) for line in self.metrics if _finite(line.get(key))]
        return [step for step, _ in known], [value for _, value in known]

    def setting(self, key: str) -> Any:
        """Of run.yaml; a dot steps into a section. None where it is not there."""
        value: Any = self.config
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


def read_record(
    run: Path, *, evaluation: Path | None = None, sample: Path | None = None, video: Path | None = None
) -> RunRecord:
    """run: the folder that `rdt train` wrote. evaluation: a JSON file; sample: the directory of `rdt sample`.

    Raises RdtError when the run or anything named is not there, or is not what it should be.
    """
    if not run.is_dir():
        raise RdtError(f"{run} is not a run's folder", remedy="give the folder that `rdt train --out` wrote")
    if video is not None and not video.is_file():
        raise RdtError(f"{video} is not there", remedy="give the file that `rdt eval --video` wrote, or leave it out")
    config_text, parameters = _text(run / FILE), _text(run / PARAMETERS)
    return RunRecord(
        folder=run,
        config={} if config_text is None else parse_yaml(config_text, str(run / FILE), example="a run's run.yaml"),
        config_text=config_text,
        parameters=parameters.partition("\n")[0] if parameters else None,
        metrics=[line for line in read_metrics(run) if _finite(line.get("step"))] if (run / METRICS).exists() else [],
        evaluation=None if evaluation is None else _evaluation(evaluation),
        sample=None if sample is None else _report(sample / "report.json", SampleReport, "`rdt sample -o` wrote"),
        traces=() if sample is None else _traces(sample),
        video=video,
    )


def _evaluation(path: Path) -> EvalReport:
    found = _report(path, EvalReport, "`rdt eval --json` printed")
    if POLICY not in found.results:
        raise RdtError(
            f"{path}: results: {', '.join(found.results) or 'nothing'}, but not {POLICY}",
            remedy="give the whole of what `rdt eval --json` printed",
        )
    return found


def _report(path: Path, kind: type[Kind], made_by: str) -> Kind:
    text = _text(path)
    if text is None:
        raise RdtError(f"{path} is not there", remedy=f"give what {made_by}, or leave it out")
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        problem = f"{path}: {field}: {first['msg']}" if field else f"{path}: {first['msg']}"
        raise RdtError(problem, remedy=f"give what {made_by}, or leave it out") from error


def _traces(folder: Path) -> list[tuple[str, str]]:
    numbered = [
        (int(found[1]), path)
        for path in folder.glob("episode_*.svg")
        if (found := re.fullmatch(r"episode_(\d+)", path.stem))
    ]
    return [(f"Episode {number}", path.read_text(encoding="utf-8")) for number, path in sorted(numbered)]


def _text(path: Path) -> str | None:
    """None where there is no such file."""
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RdtError(f"{path} is not UTF-8 text (byte {error.start})", remedy="give a text file") from error


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
