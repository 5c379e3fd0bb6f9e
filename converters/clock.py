"""The timestamps of a raw episode -> what they say of its rate (`rdt_data.clock.Clock`).

Which they are says the spec (`timestamps:`), else the reader, where its container has them by itself. What a spec names
must be there and be one number a step, or the episode is an error; what only the reader knows of is used where it is
fit. That a clock is broken never loses an episode: it is measured as it is, and `rdt-data lint` lists it.
"""

import numpy as np

from converters.fields import columns_of_steps, missing_value
from converters.raw import RawEpisode
from converters.readers import reader
from converters.spec import DatasetSpec
from rdt_data.clock import Clock, measure
from rdt_data.errors import SourceError


class ClockReader:
    """The timestamps of a spec or of its reader, made ready to measure one episode after another."""

    def __init__(self, spec: DatasetSpec) -> None:
        self._named = spec.timestamps
        self._native = reader(spec.reader).TIMESTAMPS

    def __call__(self, raw: RawEpisode) -> Clock:
        """What the timestamps say; `Clock()` where there are none.

        Raises SourceError (with `field`) when the spec names what is not there, or is not one number a step.
        """
        keys = set(raw.keys())
        if self._named is None:
            return self._by_itself(raw, keys)
        key = self._named.from_
        if key not in keys:
            if self._named.optional:
                return Clock()
            raise missing_value(key, keys)
        stamps = columns_of_steps(key, raw)
        if stamps.shape[1] != 1 or stamps.dtype.kind == "b":
            raise SourceError(
                f"holds {stamps.shape[1]} x {stamps.dtype} a step, not one time",
                remedy="name the time of each step, one number, in `timestamps`",
                field=key,
            )
        return measure(stamps[:, 0], self._named.unit)

    def _by_itself(self, raw: RawEpisode, keys: set[str]) -> Clock:
        """What the container has, though nobody asked for it: no reason to refuse an episode."""
        if self._native is None or self._native[0] not in keys:
            return Clock()
        key, unit = self._native
        try:
            stamps = np.asarray(raw.array(key))
        except SourceError:
            return Clock()
        fit = stamps.dtype.kind in "iuf" and stamps.size == len(raw)
        return measure(stamps.reshape(-1), unit) if fit else Clock()
