"""The least a converter can do: read every record, check its CRC, parse it, write the frames back out.

python benchmarks/bare_loop.py RLDS_DIR OUT_DIR
"""

import struct
import sys
from pathlib import Path

import google_crc32c
import numpy as np

from converters.readers.tfrecord import example_proto


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True)
    example = example_proto().Example
    for number, path in enumerate(sorted(source.rglob("*.tfrecord-*"))):
        with path.open("rb") as file, (out / str(number)).open("wb") as frames:
            while header := file.read(12):
                (length,) = struct.unpack("<Q", header[:8])
                data = file.read(length)
                (stored,) = struct.unpack("<I", file.read(4))
                crc = google_crc32c.value(data)
                assert stored == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
                features = example.FromString(data).features.feature
                for key, feature in features.items():
                    if "image" in key:
                        frames.writelines(feature.bytes_list.value)
                    else:
                        np.array(feature.float_list.value, np.float32)


main()
