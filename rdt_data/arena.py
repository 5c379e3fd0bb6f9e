"""The shared memory that a trainer owns: equal slots of bytes, written in place by producers of the same machine.

In: how many slots, of how many bytes. Out: slots, and an address by which other processes of the user map the same
memory. It is anonymous (memfd_create(2)): no file in /dev/shm or elsewhere, so that its size is no limit here and
nothing can be left behind; the kernel frees the memory when the last process that maps it has ended, however it ends.
All of it is reserved at the start: later there is no fault for want of memory. What the bytes mean is not known here.
"""

import mmap
import os
from contextlib import suppress
from pathlib import Path

from rdt_data.errors import RdtError

_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
_SHARED = mmap.MAP_SHARED | mmap.MAP_POPULATE  # mapped at once: memory in use is the same from the beginning


class Arena:
    """`slots` slots of `slot_bytes` bytes. Raises RdtError when the memory is not there."""

    def __init__(self, slots: int, slot_bytes: int) -> None:
        self.slots, self.slot_bytes = slots, slot_bytes
        size = slots * slot_bytes
        require_memory(size)
        self._fd = os.memfd_create("rdt-feed")
        try:
            os.posix_fallocate(self._fd, 0, size)
        except OSError as error:
            os.close(self._fd)
            raise _too_large(size, error.strerror or str(error)) from None
        self._map = mmap.mmap(self._fd, size, flags=_SHARED)

    @property
    def address(self) -> str:
        """Where other processes of the same user on this machine find the memory, while this process lives."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    def slot(self, number: int) -> memoryview:
        """The bytes of one slot."""
        return _slot(self._map, number, self.slots, self.slot_bytes)

    def close(self) -> None:
        """Give the memory back; slots that are still used stay valid until they are not."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with suppress(BufferError):  # views are alive; the mapping ends with the last of them
                self._map.close()


class Attached:
    """The arena of another process. Raises RdtError when it cannot be reached from here."""

    def __init__(self, address: str, slots: int, slot_bytes: int) -> None:
        self.slots, self.slot_bytes = slots, slot_bytes
        try:
            fd = os.open(address, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise RdtError(
                f"the memory of the trainer cannot be reached at {address}: {error.strerror}",
                remedy="run Ray as the same user and in the same container as the trainer",
            ) from None
        try:
            self._map = mmap.mmap(fd, slots * slot_bytes, flags=_SHARED)
        finally:
            os.close(fd)

    def slot(self, number: int) -> memoryview:
        """The bytes of one slot."""
        return _slot(self._map, number, self.slots, self.slot_bytes)


def require_memory(size: int) -> None:
    """Raise RdtError when this machine, or the container, has not so many bytes to give."""
    there = available()
    if size > there:
        raise _too_large(size, f"{there / 1e9:.2f} GB of memory are available")


def available() -> int:
    """Bytes of memory that can be taken without swapping, and within the limit of the control group."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    room = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    for limit, used in _LIMITS:
        with suppress(OSError, ValueError):  # another generation of control groups, or "max"
            room = min(room, int((_CGROUP / limit).read_text()) - int((_CGROUP / used).read_text()))
    return room


def _too_large(size: int, reason: str) -> RdtError:
    return RdtError(
        f"the feed needs {size / 1e9:.2f} GB of shared memory: {reason}",
        remedy="lower shuffle_gb or image_size, name fewer cameras, or give the container more memory",
    )


def _slot(mapped: mmap.mmap, number: int, slots: int, slot_bytes: int) -> memoryview:
    if not 0 <= number < slots:
        raise IndexError(f"there are {slots} slots, there is no slot {number}")
    return memoryview(mapped)[number * slot_bytes : (number + 1) * slot_bytes]
