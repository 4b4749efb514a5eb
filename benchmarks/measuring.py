"""How the benchmarks measure: alternatives in turn, medians, fresh processes, tables.

Alternatives are timed in turn, again and again, and compared round by round, so that a busy
machine disturbs all of them alike. Wall time is what a user waits for; CPU time (all threads of
the process) hardly depends on what else the machine does, and ratios of it are the ones to trust
on a shared machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quantkeras.terminal.text_tables import print_table


@dataclass
class Timings:
    """Seconds of each round: wall clock, and CPU of all threads."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, seconds: tuple[float, float]) -> None:
        """One more round: (wall, CPU)."""
        self.wall.append(seconds[0])
        self.cpu.append(seconds[1])

    @property
    def median_wall(self) -> float:
        """Seconds."""
        return statistics.median(self.wall)

    @property
    def median_cpu(self) -> float:
        """Seconds."""
        return statistics.median(self.cpu)

    def ratios(self, base: Timings) -> tuple[float, float]:
        """Medians over the rounds of this time to that of ``base``: (wall, CPU)."""
        return _ratio(self.wall, base.wall), _ratio(self.cpu, base.cpu)


def _ratio(times: Sequence[float], base: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(times, base, strict=True))


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one call: (wall, CPU)."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def in_turn(alternatives: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timings]:
    """Time all alternatives ``rounds`` times, one after the other within each round.

    They should have been called before: nothing is left out here as a warm-up.
    """
    timings = {name: Timings() for name in alternatives}
    for _ in range(rounds):
        for name, function in alternatives.items():
            timings[name].add(timed(function))
    return timings


def in_fresh_process(function: Callable[..., Any], *args: Any) -> Any:
    """What ``function(*args)`` returns in a new interpreter; both must be picklable.

    Memory and caches of this process do not matter there, with one exception: peak memory starts
    from that of the process that starts it, so that one should not import Keras itself.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()


def peak_memory() -> float:
    """The largest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)


def arguments(description: str, rounds: int | None = None) -> argparse.ArgumentParser:
    """A command line with what all benchmarks have; rounds: default of --rounds, None without."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was."""
    names = ("tensorflow", "keras", "numpy")
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def machine_line() -> str:
    """:func:`machine` as a sentence."""
    found = machine()
    versions = ", ".join(f"{name} {found[name]}" for name in ("python", "tensorflow", "keras"))
    return f"{found['cores']} cores, load {found['load']} at the end; {versions}."


def report(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()
) -> None:
    """Print one table and an empty line."""
    print_table(title, header, rows, notes)
    print(flush=True)


def verdict(value: float, goal: float) -> str:
    """``met`` or ``MISSED``: the goal is an upper limit."""
    return "met" if value <= goal else "MISSED"


def write_json(path: Path | None, figures: Mapping[str, Any]) -> None:
    """All figures, and the machine, in a file; nothing without a path."""
    if path is not None:
        text = json.dumps({"machine": machine(), **figures}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")
