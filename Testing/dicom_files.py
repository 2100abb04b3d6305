"""DICOM series made for tests: oblique slices with numbers that tell which slice they are."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

ROW, COLUMN, NORMAL = np.array([(0, 0.8, -0.6), (0, 0.6, 0.8), (1, 0, 0)])  # sagittal, rotated
ORIGIN = np.array((-20.0, 7.5, 100.25))
STEP_MM = 2.5
SIZE = (3, 4)  # rows, columns


def pixels(index: int) -> np.ndarray:
    return np.arange(12, dtype=np.int16).reshape(SIZE) + 100 * index


def write_slice(path: Path, index: float, *, series: str = "1.2.3.1", array: np.ndarray | None = None, **tags: str):
    """One MR slice, `index` steps along the normal; `tags` overwrite, e.g. t0008_0060="SEG"."""
    image = sitk.GetImageFromArray(pixels(int(index)) if array is None else array)
    position = ORIGIN + index * STEP_MM * NORMAL
    values = {
        "0008|0060": "MR",
        "0008|103e": "T1 sagittal",
        "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
        "0008|0018": f"{series}.{round(index * 10)}.{len(list(path.parent.iterdir()))}",
        "0020|000d": "1.2.3",
        "0020|000e": series,
        "0020|0032": "\\".join(f"{value:.10g}" for value in position),
        "0020|0037": "\\".join(f"{value:.10g}" for value in (*ROW, *COLUMN)),
        "0028|0030": "0.5\\0.75",  # between rows (J), between columns (I)
        "0018|0050": str(STEP_MM),
        **{name[1:].replace("_", "|"): value for name, value in tags.items()},
    }
    # ITK writes position, orientation and spacing from the image, not from the tags.
    in_plane = [float(part) for part in values["0028|0030"].split("\\")]
    axes = np.reshape([float(part) for part in values["0020|0037"].split("\\")], (2, 3))
    volume = sitk.JoinSeries(image)
    volume.SetSpacing((in_plane[1], in_plane[0], STEP_MM))
    volume.SetOrigin([float(part) for part in values["0020|0032"].split("\\")])
    volume.SetDirection(np.column_stack([*axes, np.cross(*axes)]).ravel())
    for key, value in values.items():
        volume.SetMetaData(key, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    writer.Execute(volume)


def write_series(folder: Path, indices=range(4), **options):
    """File names run against the positions, as they may."""
    for index in indices:
        write_slice(folder / f"{options.get('series', '')}{99 - 10 * index:g}.dcm", index, **options)
