"""The least a converter of raw frames can do: read each frame, encode it, write it.

python benchmarks/bare_encode.py ALOHA_DIR
"""

import os
import sys
from pathlib import Path

import h5py
import simplejpeg

with open(os.devnull, "wb") as sink:
    for path in sorted(Path(sys.argv[1]).glob("*.hdf5")):
        with h5py.File(path) as file:
            for frame in file["observations/images/cam_high"]:
                sink.write(simplejpeg.encode_jpeg(frame, quality=95, colorspace="RGB", colorsubsampling="420"))
