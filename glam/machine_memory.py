"""Memory of the machine, or of the container that this process runs in."""

import os
from contextlib import suppress
from pathlib import Path

CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Files with the memory limit of a container, of versions 2 and 1 of cgroups."""


def machine_memory() -> int:
    """Memory of this machine, or of this container, in bytes."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # "max" means no limit
            total = min(total, int(file.read_text(encoding="ascii")))
    return total
