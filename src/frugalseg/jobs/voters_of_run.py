"""The labelled cases that vote in a run's predictions: read from the data set that it was trained on, and the same.

A model's folder does not hold them: they are images of patients.
"""

from __future__ import annotations

from pathlib import Path

from frugalseg.data.budget import Split
from frugalseg.data.manifest import DataSource, read_manifest
from frugalseg.data.prepare import prepare
from frugalseg.data.store import default_store
from frugalseg.errors import DataError, UserError
from frugalseg.files import read_json_object
from frugalseg.formats import RUN_FORMAT, VOTERS, describing, read_sealed
from frugalseg.jobs.model import Model
from frugalseg.jobs.prepare import bytes_reading
from frugalseg.jobs.record import RECORD, SPLIT
from frugalseg.jobs.registrations import files_of
from frugalseg.jobs.resources import at_a_time
from frugalseg.jobs.voters import Laid, Voters

WAY_OUT = "say with --data where the run's data set is, or predict with --no-register"


def voters_of(run: Path, model: Model, data: DataSource | None, store: Path | None, laid: Laid) -> Voters | None:
    """Return a run's voters, None where its configuration gives them no share.

    Args:
        run: The run's folder.
        model: Its model.
        data: The run's data set, if it is not where it was.
        store: Where prepared cases are kept.
        laid: What the ensemble's voters share.

    Raises:
        UserError: The data set is not there.
        DataError: A labelled case is not what the run began with.
    """
    settings = model.config.atlas
    if not model.config.inference.registration or settings is None:
        return None
    facts = read_sealed(run / RECORD, RUN_FORMAT)
    with describing("a run", run / RECORD):
        files = {str(name): [str(file) for file in pair] for name, pair in dict(facts[VOTERS]).items()}
        there = dict(facts["data"])
        beside = [Path(there[key]) if key in there else None for key in ("label_maps", "describe")]
        source = DataSource(Path(there["folder"]), *beside)
    if data is not None:
        source = DataSource(data.path, data.label_maps or source.label_maps, data.describe or source.describe)
    split = Split.from_json(read_json_object(run / SPLIT), run / SPLIT)
    if not source.path.exists():
        raise UserError(
            f"is not there any more, and its labelled cases vote in every prediction; {WAY_OUT}", source.path
        )
    try:
        manifest = read_manifest(source)  # of its files those of the voters alone need be there
    except UserError as error:
        raise UserError(f"{error.what}; or {WAY_OUT}", error.where) from error
    by_name = {case.name: case for case in manifest.training}
    if missing := [name for name in split.labelled if name not in by_name]:
        raise DataError(
            f"has no training case {missing[0]!r}, which votes in every prediction; {WAY_OUT}", source.path
        )
    known = [by_name[name] for name in split.labelled]
    known = known[: settings.most]
    for path in (path for case in known for path in (*case.images, case.label)):
        if path is not None and not path.is_file():
            raise UserError(f"is not there any more, and votes in every prediction; {WAY_OUT}", path)
    workers = at_a_time(bytes_reading(known))
    cases = prepare(manifest, known, set(split.labelled), store or default_store(), model.preparation, workers)
    for case in cases:
        if files_of(case) != files.get(case.name):
            raise DataError(
                f"the image or label of {case.name!r} is not what the run began with; {WAY_OUT}", source.path
            )
    own = {case.name: files[case.name] for case in cases}
    return Voters(tuple(laid.case(case) for case in cases), own, settings, model.scheme.classes, laid)
