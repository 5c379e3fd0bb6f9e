"""Videos: every frame, in order, at its time, in its colours; seeking; files that are cut, damaged or no video."""

import tracemalloc
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from rdt_data.errors import SourceError
from rdt_data.video import VideoFormat, frame_times, probe, read_frames

RATE, FRAMES = 30, 24

CODECS = {
    "av1": ("libsvtav1", {"g": "4", "crf": "20", "svtav1-params": "lookahead=0"}),
    "h264": ("libx264", {"x264-params": "keyint=6:min-keyint=6:scenecut=0:bframes=3:b-adapt=0:open-gop=1"}),
    "hevc": ("libx265", {"x265-params": "keyint=6:min-keyint=6:bframes=3:open-gop=1:log-level=none"}),
    "mpeg4": ("mpeg4", {"g": "6", "bf": "2", "b": "2000000"}),
}
"""Format → encoder and options that make many keyframes, frames that need later ones, and open groups."""


def write(path, kind="h264", *, frames=FRAMES, size=(48, 64), container=None, options=None):
    """A video of flat colours: frame i has red 20 + 8 i and green 220 - 8 i. Sizes are (H, W)."""
    encoder, usual = CODECS[kind]
    if encoder not in av.codecs_available:
        pytest.skip(f"this PyAV was built without {encoder}")
    with av.open(str(path), "w", options=container or {}) as output:
        stream = output.add_stream(encoder, rate=RATE, options=options or usual)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(flat(number, size), format="rgb24")))
        output.mux(stream.encode())
    return path


def flat(number, size=(48, 64)):
    return np.full((*size, 3), ((20 + 8 * number) % 256, (220 - 8 * number) % 256, 90), np.uint8)


def colour(frame):
    return frame.reshape(-1, 3).mean(axis=0)


def damage(path, number):
    """Overwrite the bytes of the packet of frame `number` in coding order."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
        at, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[at : at + size] = b"\xff" * size
    path.write_bytes(data)


@pytest.mark.parametrize("kind", CODECS)
def test_every_frame_comes_back_in_order_at_its_time_and_in_its_colour(tmp_path, kind):
    path = write(tmp_path / "v.mp4", kind)
    frames = list(read_frames(path))
    assert probe(path) == VideoFormat(kind, 48, 64, RATE, FRAMES)
    np.testing.assert_allclose(frame_times(path), np.arange(FRAMES) / RATE, atol=1e-4)
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((48, 64, 3), "uint8")}
    for number, frame in enumerate(frames):
        np.testing.assert_allclose(colour(frame), colour(flat(number)), atol=6)


@pytest.mark.parametrize("kind", CODECS)
def test_reading_from_any_frame_on_gives_the_frames_of_the_whole(tmp_path, kind):
    path = write(tmp_path / "v.mp4", kind)
    whole = np.stack(list(read_frames(path)))
    for start in range(FRAMES):
        np.testing.assert_array_equal(list(read_frames(path, start, min(start + 3, FRAMES))), whole[start : start + 3])
    assert list(read_frames(path, 5, 5)) == []


@pytest.mark.parametrize(("name", "kind", "options"), [("v.mkv", "h264", None), ("v.avi", "mpeg4", {"g": "6"})])
def test_other_containers_are_read_too(tmp_path, name, kind, options):
    path = write(tmp_path / name, kind, options=options)
    np.testing.assert_allclose(frame_times(path), np.arange(FRAMES) / RATE, atol=1e-3)
    np.testing.assert_allclose(colour(next(read_frames(path, 20))), colour(flat(20)), atol=6)


@pytest.mark.parametrize("matrix", [1, 5], ids=["bt709", "bt601"])
@pytest.mark.parametrize("reach", [1, 2], ids=["limited", "full"])
def test_colours_follow_the_matrix_and_range_that_the_stream_states(tmp_path, matrix, reach):
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:] = (220, 30, 40), (40, 60, 200)
    with av.open(str(tmp_path / "v.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, reach
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=reach)
        frame.colorspace, frame.color_range = matrix, reach
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    (read,) = read_frames(tmp_path / "v.mp4")
    np.testing.assert_allclose([read[16, 8], read[16, 56]], [(220, 30, 40), (40, 60, 200)], atol=4)


def test_times_are_read_without_decoding_and_late_frames_without_the_early_ones(tmp_path):
    path = write(tmp_path / "v.mp4")
    late = list(read_frames(path, 18))
    damage(path, 1)
    assert len(frame_times(path)) == FRAMES
    np.testing.assert_array_equal(list(read_frames(path, 18)), late)
    with pytest.raises(SourceError, match=r"v\.mp4"):
        list(read_frames(path))


def test_a_damaged_frame_ends_the_reading_and_none_is_left_out_before_it(tmp_path):
    path = write(tmp_path / "v.mp4", "mpeg4")
    damage(path, 13)
    read = []
    with pytest.raises(SourceError) as caught:
        read.extend(read_frames(path))
    assert "--on-error quarantine" in caught.value.remedy
    assert len(read) <= 13
    for number, frame in enumerate(read):
        np.testing.assert_allclose(colour(frame), colour(flat(number)), atol=6)


def test_frames_are_held_a_few_at_a_time(tmp_path):
    path = write(tmp_path / "v.mp4", frames=100, size=(240, 320))
    frame_times(path)
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_frames(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 100
    assert peak < 6 * 240 * 320 * 3


def test_a_file_whose_end_is_missing_says_how_much_of_it_is_there(tmp_path):
    path = write(tmp_path / "v.mp4", frames=100, size=(240, 320), container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for read in (frame_times, read_frames):
        with pytest.raises(SourceError, match=r"v\.mp4 is cut: \d+ of 100 frames are whole"):
            read(path)


def test_a_file_that_changed_is_looked_at_again(tmp_path):
    path = write(tmp_path / "v.mp4")
    assert len(frame_times(path)) == FRAMES
    write(path, frames=10)
    assert len(frame_times(path)) == len(list(read_frames(path))) == 10


@pytest.mark.parametrize("read", [probe, frame_times, read_frames])
def test_what_is_no_video_is_an_error_with_the_words_of_ffmpeg(tmp_path, read):
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "index_lost.mp4").write_bytes(write(tmp_path / "v.mp4").read_bytes()[:2000])
    for name in ("text.mp4", "index_lost.mp4"):
        with pytest.raises(SourceError, match=f"FFmpeg cannot read {name}: (Invalid data|End of file)"):
            read(tmp_path / name)
    with pytest.raises(SourceError, match="No such file"):
        read(tmp_path / "absent.mp4")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    with pytest.raises(SourceError, match="holds no video"):
        read(tmp_path / "sound.wav")


def test_frames_behind_the_end_are_refused_at_once(tmp_path):
    path = write(tmp_path / "v.mp4")
    with pytest.raises(SourceError, match=f"v.mp4 has {FRAMES} frames; frames 20 to 30 are asked for"):
        read_frames(path, 20, 30)


def test_the_real_av1_recordings_read_whole(shared):
    folder: Path = shared / "data/lerobot_v21_unitree_g1/videos"
    paths = sorted(folder.rglob("*.mp4"))
    if not paths:
        pytest.skip(f"no videos below {folder}")
    assert [len(frame_times(path)) for path in paths] == [278, 221, 277]
    path = paths[1]
    whole = list(read_frames(path))
    np.testing.assert_array_equal(list(read_frames(path, 219)), whole[219:])
    red, green, blue = colour(whole[0][45:75, 255:305])  # the lid of the bottle is yellow
    assert min(red, green) > blue + 30
