"""Open an image source: a folder of class folders, or Parquet files, on local disk, bundled, or on S3."""

from __future__ import annotations

from collections.abc import Sequence

from synood_ray.config.settings import DataSettings
from synood_ray.data import files
from synood_ray.data.folder import FolderSource
from synood_ray.data.images import UNLABELLED, ClassInfo, ImageSource, ScanResult, Skip
from synood_ray.data.parquet import ParquetSource, find_parquet
from synood_ray.errors import UserError

__all__ = ["UNLABELLED", "ClassInfo", "ImageSource", "ScanResult", "Skip", "open_source"]


def open_source(
    uri: str,
    data: DataSettings,
    *,
    classes: Sequence[ClassInfo] | None = None,
    labelled: bool = True,
    setting: str = "data.uri",
) -> ImageSource:
    """Open the images at ``uri``; no image is touched yet.

    classes: labels are places in this list, matched by key (calibration and test sets of the same classes).
    labelled: False for a set whose classes do not matter (OOD): a flat folder will do, every label is `UNLABELLED`.
    setting: the setting that holds ``uri``, named in errors.
    Raises UserError if there is nothing there, or (labelled, no ``classes`` given) fewer than two classes.
    """
    if not uri:
        raise UserError(f"{setting}: no images named; give a folder of class folders or a Parquet file")
    folder = files.Folder(files.absolute(uri))
    try:
        source = _open(folder, uri, data, classes, labelled, setting)
    except PermissionError as error:
        raise UserError(f"{setting}: cannot read {error.filename or uri}: {error.strerror}") from error
    if labelled and classes is None and len(source.classes) < 2:
        known = f"only one class, {source.classes[0].key!r}" if source.classes else "no class"
        raise UserError(f"{setting}: {uri} holds {known}; at least two are needed")
    return source


def _open(
    folder: files.Folder,
    uri: str,
    data: DataSettings,
    classes: Sequence[ClassInfo] | None,
    labelled: bool,
    setting: str,
) -> ImageSource:
    address = folder.address
    found = find_parquet(folder)
    if found:
        return ParquetSource(address, found, data, classes, labelled, setting)
    if files.is_folder(address):
        if data.where:
            raise UserError(f"{setting}: {uri} holds no Parquet file, the only kind whose rows data.where can choose")
        return FolderSource(folder, data, classes, labelled, setting)
    if address.endswith(".parquet"):
        raise UserError(f"{setting}: no such file: {uri}")
    if files.is_file(address):
        raise UserError(f"{setting}: {uri} is a file; give a folder of class folders or a .parquet file")
    raise UserError(f"{setting}: no such folder: {uri}")
