"""Names and paths: twice the same, of no character set, too long, out of the data folder, no files at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.faults.corpus.registry import legal, malformed
from tests.faults.corpus.scene import IMAGE, LABEL, UNLABELLED, Scene, remove

SET = "dataset.json"


def first(scene: Scene, **files: object) -> None:
    scene.json("data/dataset.json", lambda d: d["training"][0].update(files))


def twin(scene: Scene, name: str | bytes) -> Path:
    """Put another unlabelled image beside the others, under a name of any bytes."""
    raw = os.fsencode(scene.data / "imagesTr") + b"/" + os.fsencode(name)
    shutil.copyfile(scene.data / UNLABELLED, raw)
    return Path(os.fsdecode(raw))


@malformed("train", SET, "'../extra/case_00.nii.gz' leaves the data folder", "copy the file into it")
def image_one_folder_up(scene: Scene) -> None:
    scene.file("extra/case_00.nii.gz", (scene.data / IMAGE).read_bytes())
    first(scene, image="../extra/case_00.nii.gz")


@malformed("train", SET, "'imagesTr/../../extra/case_00.nii.gz' leaves the data folder", "copy the file into it")
def label_two_folders_up(scene: Scene) -> None:
    scene.file("extra/case_00.nii.gz", (scene.data / LABEL).read_bytes())
    first(scene, label="imagesTr/../../extra/case_00.nii.gz")


@malformed("train", SET, "'/etc/passwd' leaves the data folder", "copy the file into it")
def absolute_path(scene: Scene) -> None:
    first(scene, image="/etc/passwd")


@legal()
def image_linked_from_elsewhere(scene: Scene) -> None:
    away = scene.file("extra/away.nii.gz", (scene.data / IMAGE).read_bytes())
    remove(scene.data / IMAGE)
    (scene.data / IMAGE).symlink_to(away)


@legal()
def label_linked_by_folder(scene: Scene) -> None:
    shutil.copytree(scene.data / "labelsTr", scene.extra / "labels")
    remove(scene.data / "labelsTr")
    (scene.data / "labelsTr").symlink_to(scene.extra / "labels", target_is_directory=True)


@malformed("train", IMAGE, "cannot be read (Too many levels of symbolic links)", "put a file there, or take it out")
def link_to_itself(scene: Scene) -> None:
    remove(scene.data / IMAGE)
    (scene.data / IMAGE).symlink_to("case_00.nii.gz")


@malformed("train", LABEL, "is named in dataset.json but does not exist", "put it there, or take its entry out")
def link_to_nothing(scene: Scene) -> None:
    remove(scene.data / LABEL)
    (scene.data / LABEL).symlink_to("nothing.nii.gz")


@malformed("train", IMAGE, "is named in dataset.json but does not exist", "put it there, or take its entry out")
def missing_image(scene: Scene) -> None:
    remove(scene.data / IMAGE)


@malformed("train", "labelsTr/case_01.nii.gz", "(2 such files in all)", "put it there, or take its entry out")
def two_missing_labels(scene: Scene) -> None:
    remove(scene.data / "labelsTr/case_01.nii.gz")
    remove(scene.data / "labelsTr/case_02.nii.gz")


@malformed("train", IMAGE, "is a folder, a file was expected", "put one there, or take it out")
def folder_named_like_an_image(scene: Scene) -> None:
    remove(scene.data / IMAGE)
    (scene.data / IMAGE).mkdir()


@malformed("train", UNLABELLED, "is a pipe, a file was expected", "put one there, or take it out")
def pipe_named_like_an_image(scene: Scene) -> None:
    remove(scene.data / UNLABELLED)
    os.mkfifo(scene.data / UNLABELLED)


@malformed("train", IMAGE, "is a device, a file was expected", "put one there, or take it out")
def link_to_a_device(scene: Scene) -> None:
    remove(scene.data / IMAGE)
    (scene.data / IMAGE).symlink_to("/dev/zero")


@legal()
def pipe_among_the_test_images(scene: Scene) -> None:
    os.mkfifo(scene.data / "imagesTs/other.nii.gz")


@malformed("train", SET, "case 'case_00' appears twice (case_00.nii.gz and case_00.nii.gz)", "take one")
def case_listed_twice(scene: Scene) -> None:
    scene.json("data/dataset.json", lambda d: d["training"].append(d["training"][0]))


@malformed("train", SET, "case 'case_03' appears twice (case_03.nii and case_03.nii.gz)", "take one")
def case_compressed_and_not(scene: Scene) -> None:
    twin(scene, "case_03.nii")


@malformed("train", SET, "cases 'Case_03' and 'case_03' differ only in capitals", "rename one")
def cases_that_differ_in_capitals(scene: Scene) -> None:
    twin(scene, "Case_03.nii.gz")


@malformed("train", "imagesTr/caf\\udce9.nii.gz", "its name is not UTF-8", "rename it")
def name_of_another_character_set(scene: Scene) -> None:
    twin(scene, "café.nii.gz".encode("latin-1"))


@malformed("train", "two\\nlines.nii.gz", "its name has a control character", "rename it")
def name_of_two_lines(scene: Scene) -> None:
    twin(scene, "two\nlines.nii.gz")


@malformed("train", "red\\x1b[31m.nii.gz", "its name has a control character", "rename it")
def name_that_colours_the_terminal(scene: Scene) -> None:
    twin(scene, "red\x1b[31m.nii.gz")


@malformed("train", "x.nii.gz", "its case's name has 240 bytes, 160 are the most", "rename it")
def name_too_long_for_what_is_made_of_it(scene: Scene) -> None:
    twin(scene, "x" * 240 + ".nii.gz")


@malformed("train", SET, "which is no name of a file (1007 bytes, 255 are the most)", "correct")
def name_longer_than_any_file(scene: Scene) -> None:
    first(scene, image="imagesTr/" + "x" * 1000 + ".nii.gz")


@malformed("train", SET, "a file name was expected, not", "path below the data folder")
def path_longer_than_any_file(scene: Scene) -> None:
    first(scene, image="imagesTr/" * 1000 + "a.nii.gz")


@malformed("train", SET, "a file name was expected, not 'imagesTr/a\\x00.nii.gz'", "path below the data folder")
def name_with_a_zero_byte(scene: Scene) -> None:
    first(scene, image="imagesTr/a\0.nii.gz")


@malformed("train", SET, "a file name was expected, not ''", "path below the data folder")
def empty_name(scene: Scene) -> None:
    first(scene, image="")


@malformed("train", "imagesTr", "is a folder, a file was expected", "put one there, or take it out")
def folder_listed_as_image(scene: Scene) -> None:
    first(scene, image="imagesTr")


@malformed("train", ".nii.gz'", "names no case", "rename")
def name_of_nothing_but_a_suffix(scene: Scene) -> None:
    scene.file("data/imagesTr/.nii.gz", (scene.data / IMAGE).read_bytes())
    first(scene, image="imagesTr/.nii.gz")


@malformed("train", "imagesTr/notes.txt", "is no NIfTI file", "export it as NIfTI")
def text_listed_as_image(scene: Scene) -> None:
    scene.file("data/imagesTr/notes.txt", "case_00 is missing\n")
    first(scene, image="imagesTr/notes.txt")


@malformed("train", "data", "is not a folder; expected a data set", "dataset.json, imagesTr and labelsTr")
def no_data_set(scene: Scene) -> None:
    shutil.rmtree(scene.data)
    scene.data.symlink_to("nowhere")


@malformed("train", "data", "has no dataset.json; expected a data set", "docs/data.md")
def empty_data_folder(scene: Scene) -> None:
    shutil.rmtree(scene.data)
    scene.data.mkdir()


@legal()
def link_within_the_data_folder(scene: Scene) -> None:
    (scene.data / IMAGE).rename(scene.data / "kept.nii.gz")
    (scene.data / IMAGE).symlink_to("../kept.nii.gz")


@legal()
def data_folder_under_another_name(scene: Scene) -> None:
    scene.data.rename(scene.folder / "elsewhere")
    scene.data.symlink_to(scene.folder / "elsewhere", target_is_directory=True)


@legal()
def names_with_dots_in_front(scene: Scene) -> None:
    first(scene, image=f"./{IMAGE}", label=f"././{LABEL}")


@legal()
def files_that_are_no_images(scene: Scene) -> None:
    for name in (".DS_Store", "._case_00.nii.gz", "Thumbs.db", "notes.txt"):
        scene.file(f"data/imagesTr/{name}", "no image")
