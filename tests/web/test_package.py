"""The page is found wherever the package is installed."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_wheel_holds_the_page(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    [wheel] = tmp_path.iterdir()
    held = set(zipfile.ZipFile(wheel).namelist())
    page = {path.name for path in (ROOT / "tables" / "web" / "page").iterdir()}
    assert page == {"index.html", "page.css", "page.js"}
    assert {f"tables/web/page/{name}" for name in page} <= held
