"""`python -m Testing.module.sample_file` draws the module's sample and its picture again, and prints the checksum.

The checksum belongs into MambaSegmentPanel/sample_data.py.
"""

import hashlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image

from MambaSegmentLib.phantom import hippocampus_phantom

RESOURCES = Path(__file__).resolve().parents[2] / "MambaSegment" / "Resources"
FILE = RESOURCES / "SampleData" / "hippocampus-phantom.nrrd"
PICTURE = RESOURCES / "Icons" / "MambaSegmentHippocampus.png"
_PICTURE_PX = (260, 280)


def drawn() -> np.ndarray:
    """The phantom's voxels, (K, J, I), as a scanner's whole numbers."""
    return np.rint(hippocampus_phantom().image.array).astype(np.int16)


def main() -> None:
    volume = hippocampus_phantom().image
    image = sitk.GetImageFromArray(drawn())
    image.SetSpacing(volume.spacing_mm)
    image.SetOrigin(volume.origin_mm)
    image.SetDirection(volume.direction)
    sitk.WriteImage(image, str(FILE), useCompression=True)
    sagittal = drawn()[::-1, :, drawn().shape[2] // 2].astype(float)  # superior on top
    low, high = np.percentile(sagittal, (1, 99))
    grey = (255 * np.clip((sagittal - low) / (high - low), 0, 1)).astype(np.uint8)
    canvas = Image.new("L", _PICTURE_PX, 0)
    width, height = _PICTURE_PX[0], round(_PICTURE_PX[0] * grey.shape[0] / grey.shape[1])
    canvas.paste(Image.fromarray(grey).resize((width, height), Image.Resampling.BICUBIC), (0, (280 - height) // 2))
    canvas.save(PICTURE, optimize=True)
    print(hashlib.sha256(FILE.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
