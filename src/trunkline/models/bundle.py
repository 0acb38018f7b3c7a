"""A trained model on disk: four plain files, and the digest that is its identity.

    encoder.json  model.onnx  signature.json  bundle.json

bundle.json holds the metadata and the sha256 of the other three. The bundle's own sha256 is taken over the sorted
(file name, sha256 of file) pairs of all four: what is served is what has this digest. JSON is written with sorted
keys and without times, so the same training gives the same digest.
"""

from __future__ import annotations

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

__all__ = ["Bundle", "encoder_and_model"]

_FORMAT = 1
_BUNDLE, _ENCODER, _MODEL, _SIGNATURE = "bundle.json", "encoder.json", "model.onnx", "signature.json"
_PARTS = (_ENCODER, _MODEL, _SIGNATURE)
_FILES = frozenset((_BUNDLE, *_PARTS))
_LARGEST = 2**31 - 1  # bytes; protobuf's own limit, beyond which ONNX would need external files


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its files were all there, nothing else was, and each had the digest recorded for it."""

    path: Path
    signature: Signature
    encoder: Encoder
    metadata: Mapping[str, Any]
    sha256: str
    model_sha256: str

    @classmethod
    def write(
        cls, directory: Path, *, signature: Signature, encoder: Encoder, onnx: bytes, metadata: Mapping[str, Any]
    ) -> Bundle:
        """Write a bundle at `directory`, whole or not at all; a bundle that is there is replaced.

        `metadata` is JSON. Raises IntegrityError for a model that refers to other files or is 2 GiB or larger, and
        where `directory` holds anything that is no bundle.
        """
        _check_model(onnx)
        if encoder.names != signature.names:
            raise IntegrityError("the encoder's columns are not the signature's inputs")
        parts = {
            _ENCODER: _json(encoder.to_json()),
            _MODEL: onnx,
            _SIGNATURE: _json(signature.to_json()),
        }
        parts[_BUNDLE] = _json(
            {
                "format": _FORMAT,
                "trunkline": version("trunkline"),
                "files": {name: _sha256(parts[name]) for name in _PARTS},
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
        if record.get("format") != _FORMAT:
            what = f"the bundle has format {record.get('format')!r}; this version of Trunkline reads {_FORMAT}"
            raise IntegrityError(what, file=directory / _BUNDLE)
        for name in _PARTS:
            if _recorded(record, name) != _sha256(parts[name]):
                raise IntegrityError(f"{name} is not the file that bundle.json records", file=directory / name)
        _check_model(parts[_MODEL])
        signature = Signature.from_json(_parse(directory, _SIGNATURE, parts))
        encoder = Encoder.from_json(_parse(directory, _ENCODER, parts))
        if encoder.names != signature.names:
            raise IntegrityError("the encoder's columns are not the signature's inputs", file=directory)
        metadata = record.get("metadata", {})
        return cls(directory, signature, encoder, metadata, identity, _sha256(parts[_MODEL]))

    def model(self) -> bytes:
        """The ONNX model, read now and checked again. Raises IntegrityError if it changed since `open`."""
        content = _bytes(self.path / _MODEL)
        if _sha256(content) != self.model_sha256:
            raise IntegrityError("model.onnx changed after the bundle was opened", file=self.path / _MODEL)
        return content

    def files(self) -> dict[str, bytes]:
        """All files by name, read now. Raises IntegrityError if one changed since `open`."""
        parts = _read(self.path)
        if _identity(parts) != self.sha256:
            raise IntegrityError("the bundle changed after it was opened", file=self.path)
        return parts


def encoder_and_model(files: Mapping[str, bytes], expect_sha256: str) -> tuple[Encoder, bytes]:
    """What scores, from a bundle's files in memory.

    Raises IntegrityError where their digest is another: it covers every byte, so that what `open` looked into before
    the digest was recorded needs no second look.
    """
    if (identity := _identity(files)) != expect_sha256:
        raise IntegrityError(f"the bundle's digest is {identity}, but {expect_sha256} was recorded")
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
    for name in sorted(_FILES - found):
        raise IntegrityError(f"the bundle lacks {name}", file=directory)
    for name in sorted(found - _FILES):
        raise IntegrityError(f"the bundle holds {name!r}, which is none of its files", file=directory)
    return {name: _bytes(directory / name) for name in sorted(_FILES)}


def _bytes(path: Path) -> bytes:
    """Content of a regular file; a link could lead anywhere and is refused."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise IntegrityError(f"{path.name} is no regular file", file=path)
        if status.st_size > _LARGEST:
            raise IntegrityError(f"{path.name} is larger than 2 GiB", file=path)
        return path.read_bytes()
    except OSError as exc:
        raise IntegrityError(f"{path.name} cannot be read: {exc}", file=path) from exc


def _parse(directory: Path, name: str, parts: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        data = json.loads(parts[name])
    except ValueError as exc:
        raise IntegrityError(f"{name} is no JSON: {exc}", file=directory / name) from exc
    if not isinstance(data, dict):
        raise IntegrityError(f"{name} does not hold an object", file=directory / name)
    return data


def _recorded(record: Mapping[str, Any], name: str) -> object:
    files = record.get("files")
    return files.get(name) if isinstance(files, dict) and files.keys() == set(_PARTS) else None


def _check_model(content: bytes) -> None:
    """Refuse a model that keeps tensors in other files, which nothing would have checked."""
    if len(content) > _LARGEST:
        raise IntegrityError("the ONNX model is larger than 2 GiB")
    # A reference to a file must spell its key, "location". Only a model with that word needs the (slower) full look.
    if b"location" in content and _has_external_data(content):
        raise IntegrityError("the ONNX model refers to external data files; a bundle holds its whole model")


def _has_external_data(content: bytes) -> bool:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as exc:
        raise IntegrityError(f"model.onnx is no ONNX model: {exc}") from exc
    pending: list[Any] = [model]
    while pending:
        message = pending.pop()
        if isinstance(message, onnx.TensorProto) and message.data_location == onnx.TensorProto.EXTERNAL:
            return True
        for field, value in message.ListFields():
            if field.message_type is not None:
                pending.extend(value if field.is_repeated else [value])
    return False
