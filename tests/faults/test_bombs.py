"""Small inputs that claim, or unpack to, far more than a machine has: refused in bounded memory and time.

Each in a process of its own, whose address space is limited: what asked for the claimed memory would end there with
a MemoryError, or be slow, and not in the line that is wanted.
"""

from __future__ import annotations

import gzip
import os
import resource
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.corpus import headers, sealing
from tests.faults.corpus.scene import IMAGE, TEST, UNLABELLED, Scene, build, commands, copy

SPACE = 6 * 2**30  # bytes of address space; PyTorch alone maps 2 to 3 GiB of it
MEMORY = 1.5 * 2**30  # bytes in use at most
SECONDS = 60.0  # on a busy machine; each is done in a few
ZEROS = gzip.compress(bytes(2**24), 9)  # a member of 16 MiB in 16 KiB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of a process are Linux's here")


@dataclass(frozen=True)
class Ended:
    status: int
    line: str
    seconds: float
    memory: float


def limited(arguments: list[object], folder: Path) -> Ended:
    """Run `frugalseg ARGUMENTS` in a limited process."""
    log = folder / "stderr.txt"
    began = time.monotonic()
    process = os.fork()
    if process == 0:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))
            resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS), int(SECONDS)))
            for number, path in ((1, os.devnull), (2, str(log))):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.execv(sys.executable, [sys.executable, "-m", "frugalseg", *map(str, arguments)])
        finally:
            os._exit(99)
    _, code, usage = os.wait4(process, 0)
    lines = [line for line in log.read_text().splitlines() if line.startswith(("Error: ", "Internal", "Traceback"))]
    assert len(lines) == 1, log.read_text()[-2000:]
    return Ended(os.waitstatus_to_exitcode(code), lines[0], time.monotonic() - began, usage.ru_maxrss * 1024)


def claims(scene: Scene) -> None:
    headers.claims_30000_cubed(scene)


def claims_what_gzip_could_hold(scene: Scene) -> None:
    """16 GiB of float32 that are not there, in a file whose size does not betray it."""
    content = bytearray(gzip.decompress((scene.data / IMAGE).read_bytes()))
    struct.pack_into("<8h", content, headers.DIM, 3, 1620, 1620, 1620, 1, 1, 1, 1)
    noise = os.urandom(18 * 2**20)
    scene.file(f"data/{IMAGE}", gzip.compress(bytes(content) + noise, 1))


def unpacks_to_64_gib(scene: Scene) -> None:
    scene.file(f"data/{UNLABELLED}", (scene.data / UNLABELLED).read_bytes() + ZEROS * 4096)


def image_of_the_test_set_that_unpacks_to_64_gib(scene: Scene) -> None:
    """The test image is compared with the training images by its content, and a whole look would take minutes."""
    scene.file(f"data/{TEST}", (scene.data / TEST).read_bytes() + ZEROS * 4096)
    headers.claims_30000_cubed(scene)


def an_extension_of_2_gib(scene: Scene) -> None:
    content = bytearray(gzip.decompress((scene.data / IMAGE).read_bytes()))
    struct.pack_into("<f", content, headers.OFFSET, 2.0**31)
    content[348:352] = b"\1\0\0\0"
    content[352:] = struct.pack("<2i", 2**31 - 352, 4)
    scene.file(f"data/{IMAGE}", gzip.compress(bytes(content)) + ZEROS * 130)


def a_terabyte_of_nothing(scene: Scene) -> None:
    (scene.data / IMAGE).unlink()
    scene.file("data/imagesTr/case_00.nii", gzip.decompress((scene.data / UNLABELLED).read_bytes()))
    os.truncate(scene.data / "imagesTr/case_00.nii", 2**40)
    scene.json("data/dataset.json", lambda d: d["training"][0].update(image="imagesTr/case_00.nii"))


def json_of_a_million_levels(scene: Scene) -> None:
    scene.file("data/dataset.json", '{"training": ' + "[" * 10**6 + "]" * 10**6 + "}")


def json_of_five_million_lists(scene: Scene) -> None:
    scene.file("data/dataset.json", '{"training": [' + "[]," * (5 * 10**6) + "[]]}")


def json_of_a_gigabyte_of_digits(scene: Scene) -> None:
    os.truncate(scene.file("data/dataset.json", '{"training": 9'), 2**30)


def json_of_sixty_million_digits(scene: Scene) -> None:
    scene.file("data/dataset.json", '{"training": ' + "9" * 60_000_000 + "}")


def labels_without_number(scene: Scene) -> None:
    scene.dataset(labels={f"label {index}": index for index in range(500_000)})


def safetensors_of_exabytes(scene: Scene) -> None:
    scene.file(f"{sealing.LAST}/model.safetensors", struct.pack("<Q", 2**60) + b"{}")
    sealing.state(scene)


def a_model_of_terabytes(scene: Scene) -> None:
    def change(facts: dict[str, object]) -> None:
        plan = facts["plan"]
        assert isinstance(plan, dict)
        plan["width"] = 4096

    sealing.model(scene, change)


DATA: list[tuple[Callable[[Scene], None], str, str]] = [
    (claims, "train", "case_00.nii.gz: claims 30000 x 30000 x 30000 voxels, over the limit"),
    (claims_what_gzip_could_hold, "train", "the largest case does not fit"),
    (unpacks_to_64_gib, "train", "case_03.nii.gz: "),
    (image_of_the_test_set_that_unpacks_to_64_gib, "train", "case_00.nii.gz: claims 30000 x 30000 x 30000 voxels"),
    (an_extension_of_2_gib, "train", "case_00.nii.gz: its voxels begin at byte 2.14748e+09"),
    (a_terabyte_of_nothing, "train", "case_00.nii: has 1099511627776 bytes, its header tells of"),
    (json_of_a_million_levels, "check", "dataset.json: is not valid JSON: nested too deeply"),
    (json_of_five_million_lists, "check", 'dataset.json: has no "modality"'),
    (json_of_a_gigabyte_of_digits, "check", "dataset.json: has 1073741824 bytes"),
    (json_of_sixty_million_digits, "check", "a number of 60000000 digits"),
    (labels_without_number, "check", "dataset.json: "),
    (safetensors_of_exabytes, "predict-test", "header too large"),
    (a_model_of_terabytes, "predict-test", "that the model does not have"),
]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return build(tmp_path_factory.mktemp("bombs") / "clean")


@pytest.mark.slow
@pytest.mark.parametrize(("make", "name", "message"), DATA, ids=lambda value: getattr(value, "__name__", ""))
def test_a_bomb_ends_in_one_line(
    make: Callable[[Scene], None], name: str, message: str, clean: Scene, tmp_path: Path
) -> None:
    scene = copy(clean, tmp_path)
    make(scene)
    ended = limited(commands(scene)[name], tmp_path)
    assert ended.status == 2, ended
    assert ended.line.startswith("Error: "), ended
    assert message in ended.line, ended
    assert ended.memory < MEMORY, ended
    assert ended.seconds < SECONDS, ended
    assert not scene.out.exists()
