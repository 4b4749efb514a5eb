"""Writes numerics.json: integers in, integers out, computed with `fractions` alone.

Every implementation of the same arithmetic answers to these vectors, in whatever language. Run it
only to add cases; a change of an existing number is a change of the arithmetic.
"""

import json
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

FILE = Path(__file__).with_name("numerics.json")


def half_up(x: Fraction) -> int:
    """floor(x + 1/2)."""
    return (x + Fraction(1, 2)).__floor__()


def rescale_cases(random: Random) -> list[dict[str, int]]:
    """saturate((acc * scale + 2**(shift-1)) >> shift), ties and saturation included."""
    cases = []
    for bits, signed in ((8, True), (8, False), (4, False), (16, True)):
        value_bits = bits - signed
        qmin, qmax = (-(2**value_bits) if signed else 0), 2**value_bits - 1
        for shift in (-2, 0, 1, 7, 12, 20, 31):
            scale = random.choice([128, 255, random.randrange(128, 256)])
            ends = [(q << max(shift, 0)) // scale for q in (qmin, qmax)]
            accs = [0, 1, -1, *ends, ends[1] + 1, 2**31 - 1, -(2**31)]
            accs += [random.randrange(2 * ends[0] - 3, 2 * ends[1] + 3) for _ in range(4)]
            tie = 2 ** max(shift - 8, 0)
            for acc, factor in [
                *((a, scale) for a in accs),
                (tie, 128),
                (-tie, 128),
                (-3 * tie, 128),
            ]:
                y = min(max(half_up(Fraction(acc * factor) / Fraction(2) ** shift), qmin), qmax)
                cases.append(
                    {
                        "acc": acc,
                        "scale": factor,
                        "shift": shift,
                        "qmin": qmin,
                        "qmax": qmax,
                        "y": y,
                    }
                )
    return cases


def quantize_cases(random: Random) -> list[dict[str, Any]]:
    """Floats (as C99 hexadecimal) to integers of `bits` bits with `frac` fractional bits."""
    cases = []
    for bits, signed, frac in (
        (8, True, 4),
        (8, False, 7),
        (4, True, -1),
        (16, True, 20),
        (2, True, 0),
    ):
        value_bits = bits - signed
        qmin, qmax = (-(2**value_bits) if signed else 0), 2**value_bits - 1
        step = Fraction(2) ** -frac
        ties = [(q + 0.5) * float(step) for q in (qmin - 1, qmin, -2, -1, 0, 1, qmax - 1, qmax)]
        drawn = [random.uniform(1.2 * qmin - 1, 1.2 * qmax + 1) * float(step) for _ in range(6)]
        for x in [*ties, *drawn, 0.49999999999999994 * float(step), 1e30, -1e30]:
            q = min(max(half_up(Fraction(x) / step), qmin), qmax)
            cases.append({"x": x.hex(), "bits": bits, "signed": signed, "frac": frac, "q": q})
    return cases


def step_cases(random: Random) -> list[dict[str, Any]]:
    """The smallest s * 2**-k >= raw on the grid of `scale_bits` bits."""
    cases = []
    for scale_bits in (4, 8, 16):
        drawn = [
            Fraction(random.randrange(2**23, 2**24), 2 ** random.randrange(20, 50))
            for _ in range(6)
        ]
        for raw in [Fraction(1), Fraction(1, 32), Fraction(2**24 - 1, 2**30), *drawn]:
            k = 0
            while raw * 2**k >= 2**scale_bits:
                k -= 1
            while raw * Fraction(2) ** k < 2 ** (scale_bits - 1):
                k += 1
            s = -((-raw * Fraction(2) ** k).__floor__())
            if s == 2**scale_bits:
                s, k = s // 2, k - 1
            cases.append({"raw": float(raw).hex(), "scale_bits": scale_bits, "s": s, "k": k})
    return cases


def vectors() -> dict[str, list[dict[str, Any]]]:
    """All cases, the same on every run."""
    random = Random(20)
    return {
        "rescale": rescale_cases(random),
        "quantize": quantize_cases(random),
        "steps": step_cases(random),
    }


def to_text(cases: dict[str, list[dict[str, Any]]]) -> str:
    """JSON with one case per line, so that a change shows as such."""
    parts = []
    for name, rows in cases.items():
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        parts.append(f' "{name}": [\n{lines}\n ]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(to_text(vectors()))
