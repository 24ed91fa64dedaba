"""A handful of files from anywhere to a folder of masks, and that folder as one ZIP file."""

import io
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from batch.files import PROGRESS as JOURNAL
from batch.inputs import LIST_SUFFIX
from batch.rows import to_json
from batch.run import COLUMNS, Options, segment_files

PHOTOS, MASKS, OVERLAY = "photos", "masks", ".overlay.jpg"


def segment_handful(
    paths: Sequence, folder: Path, segmenter, check: Callable[[Path], object]
) -> list[dict]:
    """Masks, overlays and report.jsonl of some files, in folder/masks.

    Only images reach `segment_files`, which would follow the paths in a .txt file: an image of that
    ending fails. The report has the files' names in place of their paths.

    Args:
        paths: files; of two with the same name the second gets a "~" before it.
        folder: empty; gets copies of the images, and the outputs.
        check: raises OSError or ValueError for a file that is not to be opened.

    Returns:
        The report's lines: highest score first, failed files last.
    """
    images, failed = [], []
    for path in map(Path, paths):
        try:
            check(path)
            if path.name.lower().endswith(LIST_SUFFIX):  # an image, too, can be read as a list
                raise ValueError(f"{path.name} has the ending of a list; rename it as an image.")
            images.append(_copy(path, folder / PHOTOS))
        except (OSError, ValueError) as error:
            record = {**dict.fromkeys(COLUMNS), "boxes": [], "error": str(error)}
            failed.append({**record, "path": path.name})
    masks, records = folder / MASKS, []
    masks.mkdir()
    if images:
        records = segment_files(images, masks, Options(overlay=True), segmenter, True).records
    records = [{**record, "path": Path(record["path"]).name} for record in records] + failed
    records.sort(key=lambda record: (record["score"] is None, -(record["score"] or 0)))
    (masks / "report.jsonl").write_bytes(b"".join(to_json(record) + b"\n" for record in records))
    return records


def _copy(path: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    name = path.name
    while (folder / name).exists():
        name = f"~{name}"
    return Path(shutil.copyfile(path, folder / name))


def overlay_of(record: dict, folder: Path) -> Path:
    """The overlay of an image that `segment_handful` has segmented."""
    return folder / MASKS / (record["mask"].removesuffix(".png") + OVERLAY)


def zip_masks(folder: Path) -> bytes:
    """The masks and the report of `segment_handful` as a ZIP file."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:  # PNG files would not become smaller
        for file in sorted((folder / MASKS).iterdir()):
            if not file.name.startswith(JOURNAL) and not file.name.endswith(OVERLAY):
                archive.write(file, file.name)
    return data.getvalue()
