"""The frames of an episode's camera out of a video file that holds exactly this episode.

In: the path of the video, the number of steps, and what to call both in errors. Out: (H, W, 3) uint8 RGB pixels, one
frame per step. Knows nothing of datasets; `rdt_data.video` decodes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from converters.raw import Frame
from rdt_data.errors import SourceError


@dataclass(frozen=True, slots=True)
class EpisodeVideo:
    """A video of one camera.

    name: its path in errors, relative to the source. episode, field: the number of the episode and the camera's key.
    """

    path: Path
    name: str
    episode: int
    field: str

    def frames(self, steps: int, counted_by: str) -> Iterator[Frame]:
        """One frame per step. counted_by: what says that there are `steps` steps.

        Raises SourceError: at once for a video that is missing, cannot be read or has another number of frames, later
        for a frame that cannot be decoded.
        """
        from rdt_data import video  # loads FFmpeg, which a source that is only looked at does not need

        if not self.path.is_file():
            raise self._error("the video is not there", f"copy it to {self.path}, or leave the episode out")
        try:
            count = len(video.frame_times(self.path))
            frames = video.read_frames(self.path)
        except SourceError as error:
            raise self._error(error.problem, error.remedy) from error
        if count != steps:
            raise self._error(
                f"the video has {count} frames, but the episode has {steps} steps ({counted_by})",
                "copy the video again; if it was recorded so, leave the episode out with --on-error quarantine",
            )
        return self._told(frames)

    def _told(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The same frames; what goes wrong on the way is told of this video."""
        try:
            yield from frames
        except SourceError as error:
            raise self._error(error.problem, error.remedy) from error

    def _error(self, problem: str, remedy: str) -> SourceError:
        return SourceError(problem, remedy=remedy, file=self.name, episode=self.episode, field=self.field)
