"""What must hold for the repository's files themselves."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
# Taken apart, as this file is searched too.
REGISTRY_HOSTS = re.compile("|".join(["pypi" + r"\.org", "python" + r"hosted\.org"]))
MACHINE_PATHS = re.compile(r"(?<![\w.$}])/(?:home|root|Users|work)/\w")


def tracked_files() -> list[Path]:
    """Return what is, or would be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:1024]]


@pytest.mark.parametrize("pattern", [REGISTRY_HOSTS, MACHINE_PATHS], ids=["registry", "path"])
def test_no_file_names(pattern: re.Pattern[str]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in tracked_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


class TestLock:
    def test_it_names_packages_versions_and_hashes_and_nothing_else(self) -> None:
        requirement = re.compile(r"[a-z0-9-]+==[\w.!+]+( ; [^\\]+)? \\")
        digest = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
        others = [
            line
            for line in LOCK.read_text(encoding="utf-8").splitlines()
            if not requirement.fullmatch(line) and not digest.fullmatch(line)
        ]
        assert others == []

    def test_every_package_has_a_hash(self) -> None:
        blocks = re.split(r"\n(?=[a-z])", LOCK.read_text(encoding="utf-8"))
        assert [block for block in blocks if "--hash=sha256:" not in block] == []

    def test_what_the_project_pins_is_what_the_lock_holds(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"].values()
        pinned = [*project["dependencies"], *(pin for extra in extras for pin in extra)]
        names = {re.sub(r"\[.*\]", "", pin) for pin in pinned}
        lock = LOCK.read_text(encoding="utf-8")
        locked = set(re.findall(r"^[a-z0-9-]+==[\w.!+]+", lock, re.MULTILINE))
        assert names - locked == set()


def make_targets(text: str) -> set[str]:
    """Return the targets of the `make` commands that a text shows as code."""
    return set(re.findall(r"(?:^|`|\n[ $]*)make ([a-z]+)", text))


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_the_commands_that_documents_show_exist(document: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert make_targets((ROOT / document).read_text(encoding="utf-8")) - targets == set()
