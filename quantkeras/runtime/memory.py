"""How much memory this process can still have, as far as the system says."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_CONTROL_GROUP = Path("/sys/fs/cgroup")
_KIB = 1024


def available_memory() -> int | None:
    """Bytes that can be taken before the system refuses them or ends the process; None where it
    does not say.
    """
    found = [limit for limit in (_of_the_machine(), _of_the_group(), _of_the_process()) if limit]
    return min(found, default=None)


def _of_the_machine() -> int | None:
    """What Linux can give without harm, with the free part of the swap."""
    entries = _entries(Path("/proc/meminfo"))
    free = entries.get("MemAvailable")
    return None if free is None else (free + entries.get("SwapFree", 0)) * _KIB


def _of_the_group() -> int | None:
    """What is left to a container."""
    with suppress(OSError, ValueError):  # no limit is written as "max"
        limit = int((_CONTROL_GROUP / "memory.max").read_text())
        used = int((_CONTROL_GROUP / "memory.current").read_text())
        kept = _entries(_CONTROL_GROUP / "memory.stat").get("file", 0)  # given back when needed
        return max(1, limit - used + kept)
    return None


def _of_the_process() -> int | None:
    """What `ulimit -v` leaves."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = _entries(Path("/proc/self/status")).get("VmSize")
    if limit == resource.RLIM_INFINITY or used is None:
        return None
    return max(1, limit - used * _KIB)


def _entries(path: Path) -> dict[str, int]:
    """Lines such as ``MemAvailable:  12345 kB``; none where there is no such file."""
    found = {}
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, *values = line.replace(":", " ").split()
            if values and values[0].isdigit():
                found[name] = int(values[0])
    return found
