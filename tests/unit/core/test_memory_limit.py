"""What a process may have is the least of what the machine, its control groups and its address space leave."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fewlabel.core import memory_limit

MACHINE = 8 << 30


@pytest.fixture
def system(monkeypatch):
    """Files of a system by path, and a machine of 8 GiB."""
    files = {"/proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB"}
    monkeypatch.setattr(memory_limit, "_lines", lambda path: files.get(str(path), "").splitlines())
    monkeypatch.setattr(memory_limit, "_physical", lambda: MACHINE)
    memory_limit._outer_limit.cache_clear()
    yield files
    memory_limit._outer_limit.cache_clear()


def test_the_limit_of_machine_and_groups_is_read_once(system, monkeypatch):
    assert memory_limit.memory_limit() == MACHINE
    read = []
    monkeypatch.setattr(memory_limit, "_lines", lambda path: read.append(path) or [])
    assert [memory_limit.too_large(size) for size in range(3)] == ["", "", ""]
    assert [path for path in read if "self/statm" not in str(path)] == []


def test_a_machine_alone(system):
    assert memory_limit.memory_limit() == MACHINE
    assert memory_limit.memory_left() == 4 << 30
    assert memory_limit.too_large(MACHINE) == ""
    assert memory_limit.too_large(2 * MACHINE) == "needs 16.0 GB of memory, and this process may have 8.0 GB"


def test_groups_of_the_second_version_above_count_too(system):
    system["/proc/self/cgroup"] = "0::/a/b"
    system["/sys/fs/cgroup/a/b/memory.max"] = "max"
    system["/sys/fs/cgroup/a/memory.max"] = str(1 << 30)
    system["/sys/fs/cgroup/a/memory.current"] = str(900 << 20)
    system["/sys/fs/cgroup/a/memory.stat"] = f"anon 5\ninactive_file {100 << 20}"
    assert memory_limit.memory_limit() == 1 << 30
    # Copies of files give way.
    assert memory_limit.memory_left() == (1 << 30) - (800 << 20)


def test_groups_of_the_first_version(system):
    system["/proc/self/cgroup"] = "5:devices:/x\n4:cpu,memory:/job\n0::/"
    system["/sys/fs/cgroup/memory/job/memory.limit_in_bytes"] = str(2 << 30)
    system["/sys/fs/cgroup/memory/job/memory.usage_in_bytes"] = str(3 << 30)
    system["/sys/fs/cgroup/memory/memory.limit_in_bytes"] = "9223372036854771712"
    assert memory_limit.memory_limit() == 2 << 30
    assert memory_limit.memory_left() == 0


def test_the_address_space_of_a_process():
    script = (
        "import resource\nfrom fewlabel.core.memory_limit import memory_limit\n"
        "from pathlib import Path\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)\nprint(memory_limit())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 32 << 20 < int(done.stdout) <= 64 << 20


def test_groups_below_are_counted_by_the_first_version(system):
    system["/proc/self/cgroup"] = "4:memory:/job"
    system["/sys/fs/cgroup/memory/job/memory.limit_in_bytes"] = str(2 << 30)
    system["/sys/fs/cgroup/memory/job/memory.usage_in_bytes"] = str(1 << 30)
    system["/sys/fs/cgroup/memory/job/memory.stat"] = f"cache 7\ninactive_file 0\ntotal_inactive_file {100 << 20}"
    assert memory_limit.memory_left() == (1 << 30) + (100 << 20)
