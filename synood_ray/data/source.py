"""Open an image source: a folder of class folders, or Parquet files, on local disk, bundled, or on S3."""

from __future__ import annotations

from collections.abc import Sequence

from synood_ray.config.settings import DataSettings
from synood_ray.data import files
from synood_ray.data.folder import FolderSource
from synood_ray.data.images import ClassInfo, ImageSource
from synood_ray.data.names import some
from synood_ray.data.parquet import ParquetSource, find_parquet, has_images
from synood_ray.errors import UserError


def open_source(
    uri: str,
    data: DataSettings,
    *,
    classes: Sequence[ClassInfo] | None = None,
    labelled: bool = True,
    setting: str = "data.uri",
    notes: Sequence[str] = (),
) -> ImageSource:
    """Open the images at ``uri``; no image is touched yet.

    classes: labels are places in this list, matched by key (calibration and test sets of the same classes).
    labelled: False for a set whose classes do not matter (OOD): a flat folder will do, every label is -1.
    setting: the setting that holds ``uri``, named in errors. notes: what is to come before the source's own.
    Raises UserError if there is nothing there, or (labelled, no ``classes`` given) fewer than two classes.
    """
    if not uri:
        raise UserError(f"{setting}: no images named; give a folder of class folders or a Parquet file")
    folder = files.Folder(files.absolute(uri))
    try:
        source = _open(folder, uri, data, classes, labelled, setting, list(notes))
    except PermissionError as error:
        raise UserError(f"{setting}: cannot read {error.filename or uri}: {error.strerror}") from error
    except OSError as error:
        raise UserError(f"{setting}: cannot read {error.filename or uri}: {error.strerror or error}") from error
    if labelled and classes is None and len(source.classes) < 2:
        deep = [key for key, _ in folder.files() if key.endswith(".parquet")] if files.is_folder(folder.address) else []
        if deep and not isinstance(source, ParquetSource):
            raise UserError(f"{setting}: {uri} holds Parquet files further down ({some(deep)}); name their folder")
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
    notes: list[str],
) -> ImageSource:
    address = folder.address
    found = find_parquet(folder, setting)
    if len(found) > 0 and found != [address] and labelled and set(folder.folders()) - {"data"}:
        # Tables beside class folders are about the images, unless they hold them.
        tables = [table for table in found if not has_images(table, data, setting)]
        found = [table for table in found if table not in tables]
        names = some([table.rpartition("/")[2] for table in tables])
        notes += [f"{names} beside the class folders: no column {data.image_column!r}, left out"] if tables else []
    if found:
        return ParquetSource(address, found, data, classes, labelled, setting, notes)
    if files.is_folder(address):
        if data.where:
            raise UserError(f"{setting}: {uri} holds no Parquet file, the only kind whose rows data.where can choose")
        return FolderSource(folder, data, classes, labelled, setting, notes)
    if address.endswith(".parquet"):
        raise UserError(f"{setting}: no such file: {uri}")
    if files.is_file(address):
        raise UserError(f"{setting}: {uri} is a file; give a folder of class folders or a .parquet file")
    raise UserError(f"{setting}: no such folder: {uri}")
