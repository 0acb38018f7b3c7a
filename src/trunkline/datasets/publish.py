"""A dataset's copy in an object store or on a shared disk, for machines that have not built it.

The manifest is written last and removed first: a copy that has one is whole. The sealed part is copied as it is,
encrypted. Bytes go through pyarrow's file systems, a few MB at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from trunkline.context import StepContext
from trunkline.datasets.findings import FILE as FINDINGS
from trunkline.datasets.manifest import FILE, Manifest, read_manifest
from trunkline.errors import IntegrityError, ProjectError, TransientError
from trunkline.project.files import check_content

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SEALED = "sealed"  # the sealed part's file, there and until it is in the vault
_CHUNK = 8 << 20
_OPEN = ("train.parquet", "validation.parquet")
_HOSTS = {"gs": "storage.googleapis.com", "gcs": "storage.googleapis.com"}


def location(ctx: StepContext, name: str, dataset_id: str) -> str:
    """The URL of a dataset's copy; empty if the project publishes none."""
    root = ctx.datasets.location
    return f"{root.rstrip('/')}/{name}/{dataset_id[:16]}" if root else ""


def publish(ctx: StepContext, manifest: Manifest, folder: Path) -> None:
    """Copy the files in `folder`, the sealed one among them, to the manifest's `location`.

    Raises `TransientError` if the store cannot be reached or refuses.
    """
    with _opened(ctx, manifest.location) as (store, place):
        store.create_dir(place, recursive=True)
        with contextlib.suppress(FileNotFoundError):
            store.delete_file(f"{place}/{FILE}")
        for name in (*_OPEN, SEALED, FINDINGS, FILE):
            ctx.progress(f"publishing {name}")
            with (folder / name).open("rb") as source, store.open_output_stream(f"{place}/{name}") as target:
                _copy(source, target)


def fetch(ctx: StepContext, name: str, dataset_id: str, folder: Path) -> Manifest | None:
    """Bring the published copy into `folder`, every part compared with the manifest; None if there is none.

    Raises `IntegrityError` for a copy that is not that dataset, or whose bytes have changed.
    """
    url = location(ctx, name, dataset_id)
    if not url:
        return None
    with _opened(ctx, url) as (store, place):
        try:
            _fetch(store, f"{place}/{FILE}", folder / FILE)
        except FileNotFoundError:
            return None
        manifest = read_manifest(folder)
        if (manifest.dataset_id, manifest.name) != (dataset_id, name):
            raise IntegrityError(f"{url} is not dataset {name!r} {dataset_id[:16]}", hint="remove it: it is made anew")
        for file in (*_OPEN, SEALED, FINDINGS):
            ctx.progress(f"fetching {file}")
            _fetch(store, f"{place}/{file}", folder / file)
    for file, part in zip((*_OPEN, SEALED), ("train", "validation", "test"), strict=True):
        check_content(folder / file, manifest.parts[part].file_digest)
    return manifest


def _fetch(store: FileSystem, path: str, to: Path) -> None:
    with store.open_input_stream(path) as source, to.open("wb") as target:
        _copy(source, target)


def _copy(source: BinaryIO | Any, target: BinaryIO | Any) -> None:
    while chunk := source.read(_CHUNK):
        target.write(chunk)


@contextlib.contextmanager
def _opened(ctx: StepContext, url: str) -> Iterator[tuple[FileSystem, str]]:
    """The file system of a URL, and the path in it. Its errors are ours."""
    import pyarrow as pa

    storage = ctx.secrets.resolve(ctx.datasets.storage)
    try:
        yield _filesystem(url, storage), url.partition("://")[2] or url
    except FileNotFoundError as exc:
        raise IntegrityError(f"{url} is not whole: {exc}", hint="remove its manifest.json: it is made anew") from exc
    except (OSError, pa.ArrowException) as exc:
        told = ctx.secrets.clean(str(exc).partition("\n")[0])
        raise TransientError(
            f"the store of {url} refuses: {told}", hint="`datasets:` in trunkline.yml says where it is and who asks"
        ) from None


def _filesystem(url: str, storage: Mapping[str, Any]) -> FileSystem:
    """By the URL's scheme; `storage` has the names of DuckDB's secrets, as a source's has."""
    from pyarrow import fs

    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if not scheme:
        return fs.LocalFileSystem()
    if scheme in ("az", "azure", "abfss"):
        return fs.AzureFileSystem(storage.get("account_name"), storage.get("account_key"))
    if scheme not in ("s3", "gs", "gcs", "r2"):
        raise ProjectError(
            f"`datasets: location`: {scheme}:// is no store", hint="s3://, gs://, r2://, az:// or a folder"
        )
    host = f"{storage['account_id']}.r2.cloudflarestorage.com" if scheme == "r2" else _HOSTS.get(scheme)
    return fs.S3FileSystem(
        access_key=storage.get("key_id"),
        secret_key=storage.get("secret"),
        session_token=storage.get("session_token"),
        region=storage.get("region"),
        endpoint_override=storage.get("endpoint") or host,
        scheme="https" if storage.get("use_ssl", True) else "http",
        force_virtual_addressing=storage.get("url_style") == "vhost",
    )
