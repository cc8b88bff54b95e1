"""Where the time goes: operations and bytes of each piece of work, and the share of the machine's limits reached.

The limits are measured: a large matrix product and a large convolution, and a large copy (read and written bytes
both count). A piece of work cannot take less than its multiply-adds at the convolution's rate plus the bytes that
everything else moves at the copy's rate; the last column is that time over the measured one.
"""

from __future__ import annotations

from typing import Any

from benchmarks.speed.machine import limits
from benchmarks.speed.rounds import Contender, alternate
from benchmarks.speed.text import Table


def work_of(
    method: str, crop: tuple[int, int, int], width: int, samples: int, precision: str, channels: int
) -> tuple[float, float]:
    """Return a step's multiply-adds and the bytes moved by all but its convolutions."""
    from benchmarks.speed.ours import SCHEME

    from frugalseg.config import load_config
    from frugalseg.jobs.footprint import footprint
    from frugalseg.jobs.pace import operations
    from frugalseg.networks.encoder import PUBLISHED_STRIDES
    from frugalseg.training.plan import Plan

    kind: Any = precision
    plan = Plan(crop, PUBLISHED_STRIDES, ((3, 3, 3),) * 4, width, (0,), "cpu", kind, 1000)
    labelled = samples // 2 if method.startswith("ss") else samples
    found = footprint(load_config(method), plan, channels, SCHEME, samples, labelled)
    return sum(operations(call) * count for call, count in found.convolutions.items()), found.moved


def main() -> tuple[dict[str, Any], str]:
    """Run all rows; return what is written, as JSON and as Markdown."""
    from benchmarks.speed import methods, step

    peaks = limits()
    text = (
        "".join(f"- {name.replace('_', ' ')}: {value:g} x 10^9 a second\n" for name, value in peaks.items()) + "\n"
    )
    table = Table("work", "multiply-adds", "other bytes", "least time", "measured", "share")
    rows = []
    settings = [
        ("encdec", tuple(size["crop"]), size["width"], size["samples"], size["channels"])
        for size in step.SIZES.values()
    ]
    settings += [
        (m, tuple(methods.CROP), methods.WIDTH, methods.SAMPLES, methods.CHANNELS) for m in ("vaeseg", "sscpcseg")
    ]
    for method, crop, width, samples, channels in settings:
        for precision in ("fp32", "bf16"):
            macs, moved = work_of(method, crop, width, samples, precision, channels)
            given = {
                "crop": list(crop),
                "width": width,
                "samples": samples,
                "channels": channels,
                "precision": precision,
                "method": method,
            }
            if method.startswith("ss"):
                contender = Contender(
                    method, "benchmarks.speed.methods:step", {"method": method, "precision": precision}
                )
            else:
                contender = Contender(method, "benchmarks.speed.step:ours", given)
            found = alternate([contender], repeats=7)[method]
            least = macs / peaks[f"convolution_{precision}_gmac"] / 1e9 + moved / peaks["copy_gbyte"] / 1e9
            name = (
                f"step of {method}, {samples} x {channels} x {'x'.join(map(str, crop))}, width {width}, {precision}"
            )
            rows.append(
                {"work": name, "multiply_adds": macs, "bytes": moved, "least_seconds": least, **found.to_json()}
            )
            table.add(
                name,
                f"{macs / 1e9:.1f} G",
                f"{moved / 2**20:.0f} MiB",
                f"{least:.3f} s",
                f"{found.median:.3f} s",
                f"{100 * least / found.median:.0f} %",
            )
    return {"limits": peaks, "rows": rows}, text + table.markdown()
