"""What a process may use, read from made-up /proc and /sys/fs/cgroup trees of several kinds of machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugalseg.jobs.resources import free_disk, free_memory, look, resident_bytes, usable_cpus

GIB = 2**30


def tree(folder: Path, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "proc", folder / "sys"


MEMINFO = {"proc/meminfo": f"MemTotal: {32 * 2**20} kB\nMemAvailable: {10 * 2**20} kB\nHugePages_Total: 0\n"}
V2 = {**MEMINFO, "proc/self/cgroup": "0::/user/job\n"}


def test_without_groups_the_machine_decides(tmp_path: Path) -> None:
    assert free_memory(*tree(tmp_path, MEMINFO)) == 10 * GIB


@pytest.mark.parametrize("limited", ["user/job", "user"])
def test_version_2_with_reclaimable_pages_at_any_level(tmp_path: Path, limited: str) -> None:
    group = {
        "memory.max": str(6 * GIB),
        "memory.current": str(5 * GIB),
        "memory.stat": f"anon {2 * GIB}\ninactive_file {2 * GIB}\nactive_file {GIB}\nslab_reclaimable 0\n",
    }
    files = {f"sys/{limited}/{name}": text for name, text in group.items()}
    (tmp_path / "sys/user/job").mkdir(parents=True)
    # 6 - 5 + 2 + 1 / 2
    assert free_memory(*tree(tmp_path, {**V2, **files})) == 3 * GIB + GIB // 2


def test_version_2_without_a_limit(tmp_path: Path) -> None:
    files = {"sys/user/job/memory.max": "max\n", "sys/user/job/memory.current": "5\n"}
    assert free_memory(*tree(tmp_path, {**V2, **files})) == 10 * GIB


def test_a_container_whose_path_is_the_hosts(tmp_path: Path) -> None:
    files = {"sys/memory.max": str(2 * GIB), "sys/memory.current": str(GIB)}
    assert free_memory(*tree(tmp_path, {**V2, **files})) == GIB


def test_version_1(tmp_path: Path) -> None:
    files = {
        **MEMINFO,
        "proc/self/cgroup": "9:name=systemd:/\n4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n",
        "sys/memory/job/memory.limit_in_bytes": str(4 * GIB),
        "sys/memory/job/memory.usage_in_bytes": str(3 * GIB),
        "sys/memory/job/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB}\n",
        "sys/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/memory/memory.usage_in_bytes": str(20 * GIB),
        "sys/cpu,cpuacct/job/cpu.cfs_quota_us": "250000\n",
        "sys/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
        "sys/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "sys/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    proc, groups = tree(tmp_path, files)
    assert free_memory(proc, groups) == 2 * GIB
    assert usable_cpus(proc, groups, affinity=16) == 3
    assert usable_cpus(proc, groups, affinity=2) == 2


def test_a_group_over_its_limit_has_nothing(tmp_path: Path) -> None:
    files = {"sys/user/job/memory.max": "1000", "sys/user/job/memory.current": "3000"}
    assert free_memory(*tree(tmp_path, {**V2, **files})) == 0


@pytest.mark.parametrize(("text", "count"), [("max 100000\n", 8), ("150000 100000\n", 2), ("5000 100000\n", 1)])
def test_processors_by_quota(tmp_path: Path, text: str, count: int) -> None:
    assert usable_cpus(*tree(tmp_path, {**V2, "sys/user/job/cpu.max": text}), affinity=8) == count


def test_nonsense_is_passed_over(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "what\n", "proc/meminfo": "MemAvailable: many kB\n", "sys/memory.max": "\n"}
    proc, groups = tree(tmp_path, files)
    assert free_memory(proc, groups) > 0
    assert usable_cpus(proc, groups, affinity=4) == 4


def test_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert free_disk(tmp_path / "a" / "b") == pytest.approx(free_disk(tmp_path), rel=0.2)


def test_this_machine_has_something() -> None:
    here = look("cpu")
    assert here.ram > 2**20
    assert here.cpus >= 1
    assert here.gpu is None
    assert resident_bytes() > 2**20
