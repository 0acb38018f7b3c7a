"""A trained model on disk: four or five plain files, and the digest that is its identity.

    encoder.json  model.onnx  signature.json  bundle.json
    encoder.json  model.safetensors  module.json  signature.json  bundle.json

The second is a module that ONNX cannot tell: its weights, and which code of the user's project makes it (see
`trunkline.models.torch`). bundle.json holds the metadata and the sha256 of the others. The bundle's own sha256 is taken
over the sorted (file name, sha256 of file) pairs of all: what is served is what has this digest. JSON is written with
sorted keys and without times, so the same training gives the same digest.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trunkline.errors import EngineError, IntegrityError
from trunkline.models.encoder import Encoder
from trunkline.models.signature import Signature

__all__ = ["Bundle", "encoder_and_model", "holds_module"]

_BUNDLE, _ENCODER, _SIGNATURE = "bundle.json", "encoder.json", "signature.json"
_MODEL, _WEIGHTS, _MODULE = "model.onnx", "model.safetensors", "module.json"
_ONNX_PARTS, _MODULE_PARTS = (_ENCODER, _MODEL, _SIGNATURE), (_ENCODER, _WEIGHTS, _MODULE, _SIGNATURE)
_FORMATS = {1: _ONNX_PARTS, 2: _MODULE_PARTS}  # versions before the second knew only the first, and refuse it
_FILES = frozenset((_BUNDLE, *_ONNX_PARTS, *_MODULE_PARTS))
_LARGEST = 2**31 - 1  # bytes; protobuf's own limit, beyond which ONNX would need external files
_LARGEST_JSON = 64 << 20  # bytes; as Python's objects it is some twenty times that
_NO_ONNX = "the `trunkline` commands run it in a checkout of its project; a warehouse cannot"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its files were all there, nothing else was, and each had the digest recorded for it.

    `digests` are those of all files but bundle.json, by name.
    """

    path: Path
    signature: Signature
    encoder: Encoder
    metadata: Mapping[str, Any]
    sha256: str
    digests: Mapping[str, str]

    @classmethod
    def write(
        cls,
        directory: Path,
        *,
        signature: Signature,
        encoder: Encoder,
        onnx: bytes | Mapping[str, bytes],
        metadata: Mapping[str, Any],
    ) -> Bundle:
        """Write a bundle at `directory`, whole or not at all; a bundle that is there is replaced.

        `onnx` is the model, or where it is a module the files `model.safetensors` and `module.json`. `metadata` is
        JSON. Raises IntegrityError for a model that refers to other files or is 2 GiB or larger, and where `directory`
        holds anything that is no bundle.
        """
        model = {_MODEL: onnx} if isinstance(onnx, bytes) else dict(onnx)
        number = next((n for n, names in _FORMATS.items() if {_ENCODER, _SIGNATURE, *model} == set(names)), None)
        if number is None:
            raise IntegrityError(f"a model is {_MODEL}, or {_WEIGHTS} and {_MODULE}; not {', '.join(sorted(model))}")
        _check_model(model)
        if encoder.names != signature.names:
            raise IntegrityError("the encoder's columns are not the signature's inputs")
        parts = {_ENCODER: _json(encoder.to_json()), **model, _SIGNATURE: _json(signature.to_json())}
        parts[_BUNDLE] = _json(
            {
                "format": number,
                "trunkline": version("trunkline"),
                "files": {name: _sha256(content) for name, content in parts.items()},
                "metadata": dict(metadata),
            }
        )
        try:
            _replace(directory, parts)
        except OSError as exc:
            raise EngineError(f"the bundle cannot be written: {exc}", file=directory) from exc
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path, *, expect_sha256: str | None = None) -> Bundle:
        """Open the bundle at `directory` after checking every byte of it.

        Raises IntegrityError when a file is missing, additional, a link, or differs from what was recorded, or when
        the whole differs from `expect_sha256`.
        """
        parts = _read(directory)
        identity = _identity(parts)
        if expect_sha256 is not None and identity != expect_sha256:
            what = f"the bundle's digest is {identity}, but {expect_sha256} was recorded"
            raise IntegrityError(what, file=directory)
        record = _parse(directory, _BUNDLE, parts)
        digests = {name: _sha256(content) for name, content in parts.items() if name != _BUNDLE}
        number = record.get("format")
        if not isinstance(number, int) or set(_FORMATS.get(number, ())) != digests.keys():
            known = "; ".join(f"{number} of {', '.join(names)}" for number, names in _FORMATS.items())
            what = f"the bundle has format {number!r}; this version of Trunkline reads {known}"
            raise IntegrityError(what, file=directory / _BUNDLE)
        for name, digest in digests.items():
            if _recorded(record, name, digests) != digest:
                raise IntegrityError(f"{name} is not the file that bundle.json records", file=directory / name)
        _check_model(parts)
        signature = Signature.from_json(_parse(directory, _SIGNATURE, parts))
        encoder = Encoder.from_json(_parse(directory, _ENCODER, parts))
        if encoder.names != signature.names:
            raise IntegrityError("the encoder's columns are not the signature's inputs", file=directory)
        metadata = record.get("metadata", {})
        if not isinstance(metadata, dict):
            raise IntegrityError("bundle.json has metadata that is no object", file=directory / _BUNDLE)
        return cls(directory, signature, encoder, metadata, identity, digests)

    @property
    def is_module(self) -> bool:
        """Whether the model is a module that the project's own code makes, and no ONNX."""
        return _MODULE in self.digests

    def model(self) -> bytes:
        """The ONNX model, read now and checked again. Raises IntegrityError if it changed since `open`, or is none."""
        if self.is_module:
            raise IntegrityError(
                "the model is a PyTorch module of the project, not ONNX", file=self.path / _MODULE, hint=_NO_ONNX
            )
        return self._again(_MODEL)

    def module(self) -> tuple[bytes, bytes]:
        """The module's weights and its record (`model.safetensors`, `module.json`), as `model` has the ONNX."""
        return self._again(_WEIGHTS), self._again(_MODULE)

    def _again(self, name: str) -> bytes:
        content = _bytes(self.path / name)
        if _sha256(content) != self.digests[name]:
            raise IntegrityError(f"{name} changed after the bundle was opened", file=self.path / name)
        return content

    def files(self) -> dict[str, bytes]:
        """All files by name, read now. Raises IntegrityError if one changed since `open`."""
        parts = _read(self.path)
        if _identity(parts) != self.sha256:
            raise IntegrityError("the bundle changed after it was opened", file=self.path)
        return parts


def holds_module(directory: Path) -> bool:
    """Whether the bundle there, not opened yet, says that its model is a module of the project."""
    return (directory / _MODULE).exists()


def encoder_and_model(files: Mapping[str, bytes], expect_sha256: str) -> tuple[Encoder, bytes]:
    """What scores, from a bundle's files in memory.

    Raises IntegrityError where their digest is another: it covers every byte, so that what `open` looked into before
    the digest was recorded needs no second look.
    """
    if (identity := _identity(files)) != expect_sha256:
        raise IntegrityError(f"the bundle's digest is {identity}, but {expect_sha256} was recorded")
    if _MODEL not in files:
        raise IntegrityError("the model is a PyTorch module of the project, not ONNX", hint=_NO_ONNX)
    return Encoder.from_json(json.loads(files[_ENCODER])), files[_MODEL]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _identity(parts: Mapping[str, bytes]) -> str:
    lines = "".join(f"{name} {_sha256(parts[name])}\n" for name in sorted(parts))
    return _sha256(lines.encode())


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _replace(directory: Path, parts: Mapping[str, bytes]) -> None:
    """Put `parts` at `directory` by one rename; what was there goes only when the new one is complete."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    strangers = {path.name for path in directory.iterdir()} - _FILES if directory.exists() else set()
    if strangers:
        raise IntegrityError(f"{sorted(strangers)[0]!r} is no file of a bundle; not replacing it", file=directory)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as scratch:
        fresh, old = Path(scratch, "new"), Path(scratch, "old")
        fresh.mkdir()
        for name, content in parts.items():
            with open(fresh / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if directory.exists():
            directory.rename(old)
        fresh.rename(directory)
        shutil.rmtree(old, ignore_errors=True)


def _read(directory: Path) -> dict[str, bytes]:
    try:
        found = {entry.name for entry in os.scandir(directory)}
    except OSError as exc:
        raise IntegrityError("there is no bundle here", file=directory) from exc
    files = {_BUNDLE, *(_MODULE_PARTS if _MODULE in found else _ONNX_PARTS)}
    for name in sorted(files - found):
        raise IntegrityError(f"the bundle lacks {name}", file=directory)
    for name in sorted(found - files):
        raise IntegrityError(f"the bundle holds {name!r}, which is none of its files", file=directory)
    return {name: _bytes(directory / name) for name in sorted(files)}


def _bytes(path: Path) -> bytes:
    """Content of a regular file; a link could lead anywhere and is refused, and a pipe or device is not waited for."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise _irregular(path)
            if status.st_size > _LARGEST:
                raise IntegrityError(f"{path.name} is larger than 2 GiB", file=path)
            return file.read()
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):  # a link, a socket or device of nobody, a folder
            raise _irregular(path) from exc
        raise IntegrityError(f"{path.name} cannot be read: {exc}", file=path) from exc


def _irregular(path: Path) -> IntegrityError:
    return IntegrityError(f"{path.name} is no regular file", file=path)


def _parse(directory: Path, name: str, parts: Mapping[str, bytes]) -> dict[str, Any]:
    if len(parts[name]) > _LARGEST_JSON:
        raise IntegrityError(f"{name} is larger than {_LARGEST_JSON >> 20} MiB", file=directory / name)
    try:
        data = json.loads(parts[name], parse_constant=_no_number)
    except RecursionError as exc:
        raise IntegrityError(f"{name} is nested too deep", file=directory / name) from exc
    except ValueError as exc:
        raise IntegrityError(f"{name} is no JSON: {exc}", file=directory / name) from exc
    if not isinstance(data, dict):
        raise IntegrityError(f"{name} does not hold an object", file=directory / name)
    return data


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number in JSON")


def _recorded(record: Mapping[str, Any], name: str, there: Mapping[str, str]) -> object:
    files = record.get("files")
    return files.get(name) if isinstance(files, dict) and files.keys() == there.keys() else None


def _check_model(files: Mapping[str, bytes]) -> None:
    """Refuse a model that keeps tensors in other files, which nothing would have checked, or that is damaged."""
    from trunkline.models.graph import check_graph
    from trunkline.models.tensors import check_tensors

    for name, check in ((_MODEL, check_graph), (_WEIGHTS, check_tensors)):
        if name in files:
            if len(files[name]) > _LARGEST:
                raise IntegrityError(f"{name} is larger than 2 GiB")
            check(files[name])
