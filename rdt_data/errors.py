"""The errors a user can act on: what went wrong, where, what was allowed, and the next step.

Every error this project raises on purpose is an `RdtError`; the commands print it without a traceback
and exit 1. Errors cross process boundaries (Ray, process pools), so each one pickles.
"""

import difflib
from collections.abc import Collection
from typing import Any


class RdtError(Exception):
    """A problem the user can fix, and how: `problem` says what is wrong, `remedy` the next step."""

    def __init__(self, problem: str, *, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n  fix: {self.remedy}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.__dict__.copy())


class SpecError(RdtError):
    """A dataset spec that cannot be used: names the file, the field and what was allowed."""


class StoreError(RdtError):
    """A store that cannot be opened, continued or written."""


class RemoteError(RdtError):
    """An object store that does not answer, or does not allow what is asked. No sign of damage, so no StoreError."""


class SourceError(RdtError):
    """Something wrong with the raw data: names the file, the episode and the field.

    `file` is relative to the source directory, `episode` is the number of the episode within the file,
    `field` the path of the value inside the episode; what is not known yet is None.
    """

    def __init__(
        self,
        problem: str,
        *,
        remedy: str,
        file: str | None = None,
        episode: int | str | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(problem, remedy=remedy)
        self.file = file
        self.episode = episode
        self.field = field

    def within(self, *, file: str | None = None, episode: int | str | None = None) -> "SourceError":
        """The same error, told where it happened (what is known already stays)."""
        return SourceError(
            self.problem,
            remedy=self.remedy,
            file=self.file if self.file is not None else file,
            episode=self.episode if self.episode is not None else episode,
            field=self.field,
        )

    def __str__(self) -> str:
        where = [
            text
            for text in (
                self.file,
                None if self.episode is None else f"episode {self.episode}",
                None if self.field is None else f"field {self.field}",
            )
            if text
        ]
        prefix = ", ".join(where) + ": " if where else ""
        return f"{prefix}{self.problem}\n  fix: {self.remedy}"


def unknown(kind: str, name: str, known: Collection[str]) -> RdtError:
    """The error for a name that does not exist, with the near miss or all that is allowed."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(sorted(known))}"
    return RdtError(f"no {kind} is called {name!r}", remedy=hint)


def _rebuild(kind: type[RdtError], fields: dict[str, Any]) -> RdtError:
    error = kind.__new__(kind)
    error.__dict__.update(fields)
    error.args = (fields["problem"], fields["remedy"])
    return error
