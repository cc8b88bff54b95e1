"""The views of an unlabelled crop show the same voxels: what a teacher sees, the student, and registered labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from frugalseg.data.augment import OFF, STRONG, AugmentSettings
from frugalseg.data.patches import Samples, SamplingSettings
from frugalseg.data.store import StoredCase, write_array

SIDES, CROP, SPACING = (13, 15, 11), (8, 9, 7), (1.0, 1.2, 0.9)
TURNED = {"mirror": 0.5, "rotate": 1.0, "scale": 1.0}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[StoredCase]:
    """A labelled and an unlabelled case: 3 where the structure is, a channel of noise, a guess of the structure."""
    folder, generator = tmp_path_factory.mktemp("views"), np.random.default_rng(0)
    label = (ndimage.gaussian_filter(generator.standard_normal(SIDES), 2) > 0).astype(np.uint8)[None]
    image = np.concatenate([3.0 * label, generator.standard_normal((1, *SIDES))]).astype(np.float16)
    for name, array in (("image", image), ("label", label), ("guess", 255 * np.concatenate([1 - label, label]))):
        write_array(folder / f"{name}.b2nd", array)
    image_, label_, guess = (folder / f"{name}.b2nd" for name in ("image", "label", "guess"))
    return [
        StoredCase("labelled", image_, label_, None, SIDES, SPACING, (0.0, 0.0), "one"),
        StoredCase("unlabelled", image_, None, None, SIDES, SPACING, (0.0, 0.0), "two", guess=guess),
    ]


@pytest.mark.parametrize("augmentation", [OFF.model_copy(update=TURNED), STRONG.model_copy(update=TURNED)])
def test_weak_view_and_guess_lie_on_the_image(augmentation: AugmentSettings, cases: list[StoredCase]) -> None:
    sampling = SamplingSettings(labelled=1, unlabelled=1)
    samples = Samples(cases, 1, CROP, 1, 2, sampling, augmentation, (0, 1, 2), 3, weak=True)
    changed = 0
    for number in range(1, 41, 2):
        sample = samples[number]
        assert sample.weak is not None
        assert sample.guess is not None
        own = sample.inside[0] > 0
        apart = np.abs(sample.weak[0] / 3 - sample.guess[1] / 255)[own]
        assert apart.max() < 0.01, "the teacher's view and what registered cases say of it"
        if augmentation.noise == 0:  # intensities are not changed: both views are one
            np.testing.assert_allclose(sample.weak, sample.image, atol=1e-5)
        changed += not np.allclose(sample.weak, sample.image)
        # Noise differs from voxel to voxel, so that a mirrored view would not go with the image.
        ours, theirs = sample.weak[1][own], sample.image[1][own]
        assert np.corrcoef(ours, theirs)[0, 1] > 0.2
        assert not sample.target.any()
        assert not sample.weight.any()
    assert changed > 10 or augmentation.noise == 0


def test_a_labelled_crop_has_no_weak_view(cases: list[StoredCase]) -> None:
    sampling = SamplingSettings(labelled=1, unlabelled=1)
    sample = Samples(cases, 1, CROP, 1, 2, sampling, OFF, (), 3, weak=True)[0]
    assert sample.weak is None
    assert sample.guess is None
    assert sample.weight.any()
