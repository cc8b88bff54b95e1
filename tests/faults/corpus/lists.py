"""dataset.json: text that is no JSON, JSON of the wrong shape or size, entries that contradict each other."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.faults.corpus.names import SET, first
from tests.faults.corpus.registry import legal, malformed
from tests.faults.corpus.scene import IMAGE, TEST, Scene, remove

FILE = f"data/{SET}"


def text(scene: Scene) -> str:
    return (scene.data / SET).read_text()


@malformed("train", SET, "is not valid JSON: it is empty", "restore it")
def empty_json(scene: Scene) -> None:
    scene.file(FILE, "")


@malformed("train", SET, "is not valid JSON: Unterminated string starting at in line 1", "correct it")
def json_cut_short(scene: Scene) -> None:
    scene.file(FILE, text(scene)[:200])


@malformed("train", SET, "is not valid JSON: Expecting property name", "in line 3")
def json_with_a_comma_too_many(scene: Scene) -> None:
    scene.file(FILE, '{"name": "a",\n"labels": {},\n}')


@malformed("train", SET, "holds a JSON list", "an object was expected")
def json_list(scene: Scene) -> None:
    scene.file(FILE, f"[{text(scene)}]")


@malformed("train", SET, "is not valid JSON: nested too deeply", "100 levels are the most")
def json_of_a_hundred_thousand_levels(scene: Scene) -> None:
    scene.file(FILE, '{"training": ' + "[" * 100_000 + "]" * 100_000 + "}")


@malformed("train", SET, "is nested too deeply, 100 levels are the most", "correct it")
def json_of_a_hundred_and_one_levels(scene: Scene) -> None:
    scene.file(FILE, '{"training": ' + "[" * 100 + "]" * 100 + "}")


@malformed("train", SET, "a number of 1000000 digits", "correct it")
def json_with_a_million_digits(scene: Scene) -> None:
    scene.file(FILE, '{"training": ' + "9" * 1_000_000 + "}")


@malformed("train", SET, "NaN is no JSON", "correct it")
def json_with_nan(scene: Scene) -> None:
    scene.file(FILE, text(scene).replace('"box"', "NaN"))


@malformed("train", SET, "the number 1e999 is too large", "correct it")
def json_with_an_infinite_number(scene: Scene) -> None:
    scene.file(FILE, text(scene).replace('"box"', "1e999"))


@malformed("train", SET, "names the key 'training' twice", "take one out")
def json_with_a_key_twice(scene: Scene) -> None:
    scene.file(FILE, text(scene)[:-1] + ', "training": []}')


@malformed("train", SET, "half a character (\\ud800)", "correct it")
def json_with_half_a_character(scene: Scene) -> None:
    scene.file(FILE, text(scene).replace('"tiny"', '"\\ud800"'))


@malformed("train", SET, "is not UTF-8 text (byte 0)", "save it as UTF-8")
def json_in_utf_16(scene: Scene) -> None:
    scene.file(FILE, text(scene).encode("utf-16"))


@malformed("train", SET, "has 1073741824 bytes, more than the", "may have")
def json_of_a_gigabyte(scene: Scene) -> None:
    os.truncate(scene.file(FILE, ""), 2**30)


@malformed("train", SET, "is a folder, a file was expected", "put one there")
def json_that_is_a_folder(scene: Scene) -> None:
    remove(scene.data / SET)
    (scene.data / SET).mkdir()


@malformed("train", SET, "is a pipe, a file was expected", "put one there")
def json_that_is_a_pipe(scene: Scene) -> None:
    remove(scene.data / SET)
    os.mkfifo(scene.data / SET)


def wrong(name: str, found: str, todo: str, /, **keys: Any) -> None:
    """Register dataset.json with these keys set; None takes one away."""

    def change(scene: Scene) -> None:
        scene.dataset(**keys)

    change.__name__, change.__module__ = name, __name__
    malformed("train", SET, found, todo)(change)


wrong("no_channels", 'has no "modality"', 'an object such as {"0": "MRI"}', modality=None)
wrong(
    "channels_in_a_list",
    '"modality" must be an object',
    'such as {"0": "MRI"}',
    modality=["T1", "T2"],
)
wrong(
    "channels_counted_from_one",
    '"modality" must number its channels 0 to 1',
    "not 1, 2",
    modality={"1": "a", "2": "b"},
)
wrong("two_channels_of_one_name", '"modality" names a channel twice: a, a', "rename", modality={"0": "a", "1": "a"})
wrong(
    "a_channel_that_is_a_list",
    '"modality" names channel 1 [2]',
    "a name was expected",
    modality={"0": "a", "1": [2]},
)
wrong("no_labels", "labels: an object of names and values was expected, such as", "not nothing", labels=None)
wrong("labels_in_a_list", "labels: an object of names and values was expected", "not a list", labels=["a", "b"])
wrong("no_background", "labels need different values, 0 (background) among", "them", labels={"1": "a", "2": "b"})
wrong("background_alone", "labels name no structure beside the background", "add one", labels={"0": "background"})
wrong("a_value_twice", "labels need different values", "among them", labels={"background": 0, "a": 1, "b": 1})
wrong("a_value_with_a_half", "'a': 1.5 is doubled or not an integer", "such as", labels={"background": 0, "a": 1.5})
wrong(
    "a_value_that_is_true", "'a': True is doubled or not an integer", "such as", labels={"background": 0, "a": True}
)
wrong("a_value_too_large", "none over 32767", "different values", labels={"background": 0, "a": 99999})
wrong("a_value_that_is_an_object", "is neither value: name nor name: value", "such as", labels={"0": "b", "1": {}})
wrong(
    "three_hundred_labels",
    "labels have 300 values; 255 are the most",
    "merge",
    labels={str(i): f"l{i}" for i in range(300)},
)
wrong("a_label_without_a_name", "has no name", "such as", labels={"0": "background", "1": ""})
wrong("regions_in_a_list", "regions must be an object of names and lists", "such as", regions=["box"])
wrong(
    "region_of_lists", "region 'all' must be a list of label values", "out of 1, not [[1]]", regions={"all": [[1]]}
)
wrong(
    "region_of_an_unknown_value",
    "region 'all' must be a list of label values out of",
    "1, not [2]",
    regions={"all": [2]},
)
wrong(
    "region_order_that_is_text",
    "regions_class_order must be a list",
    "one label value",
    regions={"all": [1]},
    regions_class_order="1",
)
wrong(
    "region_order_too_long",
    "regions_class_order needs one label value for each of 1 regions",
    "has 2",
    regions={"all": [1]},
    regions_class_order=[1, 1],
)
wrong(
    "region_order_of_yes_and_no",
    "regions_class_order needs one label value",
    "each",
    regions={"all": [1]},
    regions_class_order=[True],
)
wrong(
    "ignored_value_that_is_text",
    "ignore must be the value of the voxels to ignore",
    "-32768 to 32767",
    ignore="yes",
)
wrong("ignored_value_of_a_label", "the ignored value 1 is also that of a label", "one of its own", ignore=1)
wrong(
    "training_that_is_text",
    '"training" must be a list of at most 100000',
    "entries, not text",
    training="imagesTr",
)
wrong(
    "training_of_numbers",
    'an entry of "training" has no "image" or is no object',
    'name its "image", and its "label" if it has one',
    training=[5],
)
wrong("training_without_images", 'an entry of "training" has no "image"', "name", training=[{"label": IMAGE}])
wrong(
    "test_that_is_an_object",
    '"test" must be a list of at most 100000',
    "entries, not an object",
    test={"image": TEST},
)
wrong("test_of_numbers", "a file name was expected, not '7'", "path below", test=[7])
wrong("groups_in_a_list", "groups must be an object of case names and patients", "not a list", groups=["a"])
wrong("a_group_that_is_a_list", "groups of case 'case_00' is a list", "a patient's name", groups={"case_00": ["p"]})
wrong(
    "a_group_of_no_case",
    "groups names 'nobody', which is no case of this data set",
    "correct",
    groups={"nobody": "p"},
)
wrong("validation_that_is_text", "validation must be a list of names of", "cases, not text", validation="case_00")
wrong("validation_that_is_a_number", "validation must be a list of names", "of cases, not a number", validation=1)
wrong(
    "validation_of_a_test_case",
    "validation names the test case 'case_05'",
    "no run may read",
    validation=["case_05"],
)
wrong("validation_without_a_label", "validation names 'case_03'", "labelled training case", validation=["case_03"])
wrong("validation_twice_the_same", "validation names 'case_00' twice", "once", validation=["case_00", "case_00"])
wrong(
    "annotated_in_a_list",
    "annotated_classes must be an object",
    'such as {"case_01": ["box"]}',
    annotated_classes=["box"],
)
wrong(
    "annotated_unknown",
    "'boks' is no structure of this data set (box)",
    "Did you mean 'box'?",
    annotated_classes={"case_00": ["boks"]},
)
wrong(
    "annotated_nothing",
    "annotated_classes lists nothing for case 'case_00'",
    "take its label",
    annotated_classes={"case_00": []},
)
wrong("a_name_that_is_a_list", '"name" is a list', "text was expected", name=["a"])


@malformed("train", SET, "the label of 'imagesTr/case_00.nii.gz' is a number", "a file name was expected")
def label_that_is_a_number(scene: Scene) -> None:
    first(scene, label=0)


@malformed("train", SET, "the label of 'imagesTr/case_00.nii.gz' is a list", "a file name was expected")
def label_that_is_an_empty_list(scene: Scene) -> None:
    first(scene, label=[])


@malformed("train", SET, "case 'case_00' is both a training and a test case", "take it out of one")
def case_for_training_and_testing(scene: Scene) -> None:
    scene.dataset(test=[IMAGE])


@malformed(
    "train", SET, "the label of training case 'case_00' is the test label case_05.nii.gz", "take the entry out"
)
def test_label_for_training(scene: Scene) -> None:
    first(scene, label="labelsTs/case_05.nii.gz")


@malformed("train", SET, "names no training image, and there is none in imagesTr and imagesUn", "put images there")
def nothing_to_train_on(scene: Scene) -> None:
    for path in sorted((scene.data / "imagesTr").iterdir()):
        remove(path)
    scene.dataset(training=[])


@malformed("train", "data", "no training case has a label, at least one is needed", "put one there and name it")
def nothing_labelled(scene: Scene) -> None:
    scene.dataset(training=[])


@legal()
def json_with_a_byte_order_mark(scene: Scene) -> None:
    scene.file(FILE, b"\xef\xbb\xbf" + text(scene).encode())


@legal()
def labels_the_other_way_round(scene: Scene) -> None:
    scene.dataset(labels={"background": 0, "box": 1})


@legal()
def keys_that_nobody_reads(scene: Scene) -> None:
    scene.file(FILE, json.dumps({**json.loads(text(scene)), "release": "2.0", "colour": ".nii.gz"}, indent=8))
