"""`frugalseg check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from frugalseg.cli.options import Data, Describe, LabelMaps


def check(
    data: Data,
    label_maps: LabelMaps = None,
    describe: Describe = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    overlays: Annotated[
        Path | None, typer.Option(help="New folder for a picture of every case, and index.html, the worst first.")
    ] = None,
    mend: Annotated[
        Path | None, typer.Option(help="New folder for a mended copy; DATA itself is never changed.")
    ] = None,
    mend_limit: Annotated[
        float | None,
        typer.Option(
            help="Millimetres that a header may be wrong to be mended. [default: 0.1, half a voxel at most]"
        ),
    ] = None,
    remap: Annotated[
        list[str] | None,
        typer.Option(help="OLD=NEW: a label value outside the scheme becomes one of it; repeatable."),
    ] = None,
    resample_channels: Annotated[
        bool, typer.Option("--resample-channels", help="Bring channels to the grid of a case's first one.")
    ] = False,
    nan_to_zero: Annotated[
        bool, typer.Option("--nan-to-zero", help="Set voxels of images that are not finite to 0.")
    ] = False,
) -> None:
    """Look at every image and label before anything is trained; status 2 when training could not start.

    With --mend: also when a case could not be mended and stayed out of the copy.
    """
    import json

    from frugalseg.data.check import render
    from frugalseg.data.source import DataSource
    from frugalseg.errors import UserError
    from frugalseg.jobs.check import check_data, require_new

    source = DataSource(data, label_maps, describe)
    if mend is None:
        given = {"--mend-limit": mend_limit is not None, "--remap": bool(remap)}
        given |= {"--resample-channels": resample_channels, "--nan-to-zero": nan_to_zero}
        for option, is_given in given.items():
            if is_given:
                raise UserError("says how to mend; name a folder for the mended copy with --mend OUT", option)
        report = check_data(source, overlays)
        print(json.dumps(report.to_json(), indent=1) if as_json else render(report))
        if not report.can_train:
            raise typer.Exit(2)
        return
    from frugalseg.data.mend import MendSettings
    from frugalseg.jobs.mend import mend as mend_data
    from frugalseg.jobs.mend import read_remap, render_mended

    settings = MendSettings(mend_limit, read_remap(remap or ()), resample_channels, nan_to_zero)
    require_new(mend, data, "--mend")
    before = check_data(source, overlays)
    result = mend_data(source, mend, settings, before)
    after = result.report
    if as_json:
        cases = {case.case.name: {"status": case.status, "reasons": list(case.reasons)} for case in result.cases}
        value = {"mended": cases, "before": before.to_json(), "after": None if after is None else after.to_json()}
        print(json.dumps(value, indent=1))
    else:
        print(render_mended(result, mend) + ("" if after is None else f"\n\n{render(after)}"))
    if not result.complete:
        raise typer.Exit(2)
