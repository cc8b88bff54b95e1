"""What first weights may not know: images and labels of test cases, labels of those that choose the checkpoint."""

from __future__ import annotations

from frugalseg.data.budget import Split
from frugalseg.data.manifest import Manifest
from frugalseg.data.prepare import key_of_image
from frugalseg.errors import UserError
from frugalseg.jobs.initial import Initial
from frugalseg.jobs.labels_read import KEY
from frugalseg.jobs.show import say


def require_not_transductive(initial: Initial, manifest: Manifest) -> None:
    """Refuse weights that were trained with the test cases' images, unless this run is, too.

    Raises:
        UserError: They were.
    """
    if initial.transductive and not manifest.transductive:
        raise UserError(
            "has seen the test cases' images (--transductive), so this run will have, too: add --transductive, "
            "which reports then tell, or train it without them",
            initial.run,
        )


def require_fair(initial: Initial, manifest: Manifest, split: Split) -> None:
    """Refuse weights that know what this run is to be measured by: test images, or labels of validation cases.

    Raises:
        UserError: They do.
    """
    require_unseen(initial, manifest)
    require_not_transductive(initial, manifest)
    require_fair_validation(initial, manifest, split)


def require_unseen(initial: Initial, manifest: Manifest) -> None:
    """Refuse weights that know the test cases of this data set, whatever these are called.

    Their images may be known with --transductive, their labels never: another data set may train on them.

    Raises:
        UserError: Names the first one.
    """
    if manifest.test and manifest.transductive and not initial.labels.complete:
        raise UserError(
            "began with weights that had read labels, and an older version did not record which: perhaps those of "
            "test cases; leave out --transductive, or train that one anew",
            initial.run,
        )
    for case in manifest.test:
        key = key_of_image(case, initial.preparation[0])[:KEY]
        if key in initial.labels.trained | initial.labels.chosen:
            raise UserError(
                f"has read the label of the test case {case.name!r}, which would then be scored by what was learnt "
                "from it; begin with weights that have not, or take the case out of the test list",
                initial.run,
            )
        if not manifest.transductive and key in initial.keys:
            raise UserError(
                f"has seen the image of the test case {case.name!r}: add --transductive, which reports then "
                "tell, or pre-train without it",
                initial.run,
            )


def require_fair_validation(initial: Initial, manifest: Manifest, split: Split) -> None:
    """Refuse weights that have learnt a validation case's label: by it the best checkpoint would be the first.

    That they have seen its image alone is said.

    Raises:
        UserError: Names the case.
    """
    cases = {case.name: case for case in manifest.labelled if case.name in split.validation}
    if cases and not initial.labels.complete:
        raise UserError(
            "began with weights that had read labels, and an older version did not record which: perhaps those "
            "of validation cases; train without --validation, or train that one anew",
            initial.run,
        )
    keys = {name: key_of_image(case, initial.preparation[0])[:KEY] for name, case in cases.items()}
    for name, key in keys.items():
        if key in initial.labels.trained:
            raise UserError(
                f"has learnt the label of the validation case {name!r}, so that the best checkpoint would be "
                "chosen by what was learnt already; give both the same --labels, --seed and --validation, or "
                "train without validation cases",
                initial.run,
            )
    if seen := sum(key in initial.keys for key in keys.values()):
        say(f"the first weights have seen the images of {seen} of {len(keys)} validation cases")
