"""The jars of Apache Kafka: fetched once, checked against the repository, cached.

`kafka_jars.sha256` names every jar (all dependencies included) with its checksum, so a start
resolves nothing and needs the network only when the cache is cold. After a change of ROOTS, write
it anew with `python -m streams.kafka_jars`.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from streams.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from jgo.maven import MavenContext

# slf4j-simple in the version of slf4j-api that this Kafka depends on.
ROOTS = ("org.apache.kafka:kafka_2.13:4.3.1", "org.slf4j:slf4j-simple:1.7.36")
MANIFEST = Path(__file__).with_name("kafka_jars.sha256")
_DOWNLOADS_AT_ONCE = 6

logger = logging.getLogger(__name__)


def cache_dir() -> Path:
    """Return the folder for what can be fetched or made again; it need not exist."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "headrace"


def kafka_dir(cache: Path, manifest: Path = MANIFEST) -> Path:
    """Return the folder of exactly these jars. Another manifest has another folder."""
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()[:12]
    return cache / f"kafka-{digest}"


def read_manifest(manifest: Path = MANIFEST) -> dict[str, str]:
    """Return the sha256 of each jar by its coordinate `group:artifact:version`."""
    rows = (line.split() for line in manifest.read_text(encoding="utf-8").splitlines())
    return {coordinate: sha256 for sha256, coordinate in rows}


def install_jars(cache: Path, manifest: Path = MANIFEST) -> tuple[Path, ...]:
    """Return the jars, sorted by name, after fetching those that are not in the cache.

    The folder appears under its name only when every jar in it has matched its checksum, so later
    calls look at no more than its files' presence. Safe from several processes at once. Raises
    BrokerError when a jar cannot be fetched or does not match.
    """
    checksums = read_manifest(manifest)
    folder = kafka_dir(cache, manifest) / "jars"
    jars = tuple(sorted(folder / _file_name(coordinate) for coordinate in checksums))
    if not _all_there(jars):
        with locked(cache):
            if not _all_there(jars):  # another process may have been faster
                _fetch_into(folder, checksums)
    return jars


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Hold the cache folder's lock. The kernel lets go of it when its holder dies."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "kafka.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _file_name(coordinate: str) -> str:
    _, artifact, version = coordinate.split(":")
    return f"{artifact}-{version}.jar"


def _all_there(jars: Iterable[Path]) -> bool:
    return all(jar.is_file() and jar.stat().st_size for jar in jars)


def _fetch_into(folder: Path, checksums: Mapping[str, str]) -> None:
    logger.info("fetching Apache Kafka (%d jars), once", len(checksums))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetch-") as temporary:
        ready = Path(temporary) / "jars"
        ready.mkdir()
        for coordinate, path in _download(checksums, Path(temporary) / "maven").items():
            _check(coordinate, path, checksums[coordinate])
            path.rename(ready / path.name)
        shutil.rmtree(folder, ignore_errors=True)  # one that somebody has taken files from
        ready.rename(folder)


def _download(coordinates: Iterable[str], into: Path) -> dict[str, Path]:
    context = _maven(into)

    def fetch(coordinate: str) -> Path:
        try:
            return context.create_dependency(coordinate).artifact.resolve()
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            # What requests says of a connection is a paragraph; --verbose shows it.
            cause = type(error).__name__ if isinstance(error, OSError) else str(error)
            message = (
                f"cannot fetch {coordinate} for the embedded Kafka ({cause}); check the network, "
                "or set KAFKA_BROKERS to use a cluster of yours"
            )
            raise BrokerError(message) from error

    names = list(coordinates)
    with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
        return dict(zip(names, pool.map(fetch, names), strict=True))


def _maven(repository: Path) -> MavenContext:
    # Imported here: it costs 0.2 s, and a start with a warm cache does without it.
    from jgo.maven import MavenContext  # noqa: PLC0415

    return MavenContext(repo_cache=repository, local_repos=[], timeout=30)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(coordinate: str, path: Path, expected: str) -> None:
    found = _sha256(path)
    if found != expected:
        message = (
            f"{coordinate} does not match its checksum in {MANIFEST.name} (expected {expected}, "
            f"fetched {found}); it was not installed: check what stands between you and Maven"
        )
        raise BrokerError(message)


def write_manifest(manifest: Path = MANIFEST, roots: Iterable[str] = ROOTS) -> None:
    """Resolve roots with all their dependencies and write the manifest."""
    with tempfile.TemporaryDirectory() as temporary:
        context = _maven(Path(temporary))
        wanted = [context.create_dependency(root) for root in roots]
        inputs, others = context.resolver.resolve(wanted)
        found = sorted(f"{d.groupId}:{d.artifactId}:{d.version}" for d in [*inputs, *others])
        jars = _download(found, Path(temporary))
        lines = [f"{_sha256(jars[coordinate])}  {coordinate}\n" for coordinate in found]
    manifest.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write_manifest()
    sys.stdout.write(f"wrote {MANIFEST.name}: {len(read_manifest())} jars\n")
