"""A bundle and the code that scores it as one zip file: what the Python of a warehouse imports.

The code is this package's own, byte for byte, and reads the bundle from the zip it came in: an encoder there and here
cannot disagree. Equal bundles and equal code give equal bytes, and the file's name carries their digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zipfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.errors import EngineError
from trunkline.models.bundle import Bundle, encoder_and_model
from trunkline.models.runtime import Scorer

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HANDLER", "PACKAGES", "handler_source", "pack", "unpack", "unpackable"]

PACKAGES = ("numpy", "pandas", "pyarrow", "onnxruntime")
"""What the code in the zip imports beyond the standard library."""

HANDLER = "predict"
"""The name of the function in `handler_source`."""

_FOLDER = "bundle/"
_MODULES = ("answer", "bundle", "columns", "encoder", "function", "packed", "runtime", "signature", "task")
_ROOT = '"""The part of Trunkline that scores a model."""\n'
_BORN = (1980, 1, 1, 0, 0, 0)  # the zip format's first moment: a time of making would change the digest

_SOURCE = '''\
"""{reference}, sha256 {sha256}. Written by `trunkline functions publish`."""

import os
import sys

import pandas
from _snowflake import vectorized

ARCHIVE = os.path.join(sys._xoptions["snowflake_import_directory"], "{archive}")
if ARCHIVE not in sys.path:
    sys.path.insert(0, ARCHIVE)

from trunkline.models.function import over_pandas
from trunkline.models.packed import unpack

SCORE = over_pandas(unpack(ARCHIVE, "{sha256}"))


@vectorized(input=pandas.DataFrame)
def predict(frame):
    return SCORE(frame)
'''


def pack(bundle: Bundle, folder: Path, name: str) -> Path:
    """Write the zip of `bundle` into `folder` as `<name>-<digest>.zip`, unless it is there.

    Raises EngineError for a model that takes images, or is no ONNX: what those need is not there.
    """
    if what := unpackable(bundle):
        raise EngineError(
            what,
            file=bundle.path,
            hint="`trunkline score` without --in-warehouse scores its rows on this machine",
        )
    content = _zipped(_code() | {f"{_FOLDER}{file}": data for file, data in bundle.files().items()})
    path = folder / f"{name}-{hashlib.sha256(content).hexdigest()[:16]}.zip"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
                unfinished = Path(scratch, path.name)
                unfinished.write_bytes(content)
                unfinished.rename(path)
    except OSError as exc:
        raise EngineError(f"the packed model cannot be written: {exc}", file=path) from exc
    return path


def unpackable(bundle: Bundle) -> str:
    """Why the Python of a warehouse cannot run the model; empty if it can."""
    pictures = [field.name for field in bundle.signature.inputs if field.kind == "image"]
    if not pictures and not bundle.is_module:
        return ""
    what = f"takes images ({pictures[0]})" if pictures else "is a PyTorch module of the project, not ONNX"
    return f"the model {what}: the Python of a warehouse cannot run it"


def unpack(archive: str, expect_sha256: str) -> Scorer:
    """The scorer of a packed bundle. Raises IntegrityError if it is not the one that was published."""
    with zipfile.ZipFile(archive) as packed:
        names = [name for name in packed.namelist() if name.startswith(_FOLDER)]
        files = {name.removeprefix(_FOLDER): packed.read(name) for name in names}
    encoder, onnx = encoder_and_model(files, expect_sha256)
    return Scorer.of(encoder, onnx)


def handler_source(archive: Path, *, reference: str, sha256: str) -> str:
    """The module that a warehouse runs, with `archive` in its import directory."""
    told = json.dumps(reference)[1:-1]  # it stands in a docstring, and comes from a registry
    return _SOURCE.format(archive=archive.name, reference=told, sha256=sha256)


def _code() -> dict[str, bytes]:
    package = resources.files("trunkline")
    files = ["errors.py", "models/__init__.py", *(f"models/{name}.py" for name in _MODULES)]
    code = {f"trunkline/{file}": package.joinpath(file).read_bytes() for file in files}
    return {"trunkline/__init__.py": _ROOT.encode(), **code}


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """Stored, not deflated: another zlib would give other bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _BORN)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            packed.writestr(info, files[name])
    return out.getvalue()
