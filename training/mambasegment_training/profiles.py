"""Data sets of the papers, in the layout that their publishers hand out: which files make a case, and what labels mean.

A profile makes what `find_dataset` makes. Where a data set has several masks for one image, they are first put together
into one label file each, in the work folder. No image is copied, and nothing is downloaded.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from MambaSegmentLib.errors import ConfigError, ImageError
from MambaSegmentLib.files import atomic_path
from MambaSegmentLib.manifest import Region

from .case_files import RawCase, Reading
from .dataset import RawDataset
from .fingerprint import NO_WISHES, Wishes
from .pictures import COLOURS
from .split import Split

Found = list[RawCase]


@dataclass(frozen=True)
class Recipe:
    """One of training/configs, and what of it is of this data set: patch, batch and length as the paper or code has."""

    config: str
    settings: tuple[str, ...] = ()

    def command(self, work: Path) -> str:
        """What a user types to train by it."""
        settings = "".join(f' --set "{setting}"' for setting in self.settings)
        return f"mambatrain fit {work} -o RUN --config training/configs/{self.config}.toml{settings}"


@dataclass(frozen=True)
class Profile:
    """A public data set.

    Attributes:
        about: what it is, and which paper of this project used it.
        find: (folder, folder for label files that must be made) -> cases.
        layout: what the folder must hold, for the message when it does not.
        stored: value in the label files -> label; 0 drops a structure that the paper leaves out.
        validation: cases that the paper tests on, where a fixed list is part of its rule.
        wishes: what the paper does in preprocessing, beyond what follows from the data.
        recipes: of the papers that used it.
    """

    about: str
    find: Callable[[Path, Path], Found]
    layout: str
    channels: tuple[str, ...]
    labels: Mapping[int, str]
    stored: Mapping[int, int] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()
    validation: tuple[str, ...] = ()
    wishes: Wishes = NO_WISHES
    recipes: tuple[Recipe, ...] = ()

    def dataset(self, name: str, folder: Path, made: Path) -> RawDataset:
        """The data set in `folder`.

        Args:
            made: folder for label files that are put together.
        Raises:
            ConfigError: no such folder, or another layout. ImageError: files that do not belong together.
        """
        if not folder.is_dir():
            raise ConfigError(f"{folder} does not exist; expected {self.layout}")
        cases = sorted(self.find(folder, made), key=lambda case: case.identifier)
        if not cases:
            raise ConfigError(f"{folder} has no case of the profile {name!r}; expected {self.layout}")
        for case in cases:
            missing = [path for path in (*case.images, case.labels) if not path.is_file()]
            if missing:
                raise ImageError(f"case {case.identifier} lacks {missing[0]}; expected {self.layout}")
        coloured = len(self.channels) == len(COLOURS) and len(cases[0].images) == 1
        reading = Reading(len(COLOURS) if coloured else 1, {}, dict(self.stored))
        return RawDataset(name, self.channels, dict(self.labels), None, tuple(cases), self.regions, reading)

    def folds(self, cases: Sequence[RawCase]) -> tuple[Split, ...] | None:
        """The paper's own split, if its list is fixed and the cases are all there; else folds are drawn.

        Raises:
            ConfigError: cases of the list are missing.
        """
        if not self.validation:
            return None
        names = [case.identifier for case in cases]
        missing = sorted(set(self.validation) - set(names))
        if missing:
            raise ConfigError(f"the paper tests on {missing[0]}, which is not in the data set; add it, or use --splits")
        return (Split(tuple(sorted(set(names) - set(self.validation))), tuple(sorted(self.validation))),)


def profile_named(name: str) -> Profile:
    """Raises: ConfigError, for a name that is not known."""
    if name not in PROFILES:
        raise ConfigError(f"unknown profile {name!r}; known: {', '.join(PROFILES)}")
    return PROFILES[name]


def _matching(folder: Path, pattern: str, expression: str) -> Iterable[tuple[Path, re.Match[str]]]:
    """Files below the folder, by glob and regular expression of the name."""
    for path in sorted(folder.rglob(pattern)):
        match = re.fullmatch(expression, path.name)
        if match is not None:
            yield path, match


def _acdc(folder: Path, made: Path) -> Found:
    found = []
    for labels, match in _matching(folder, "*_gt.nii*", r"((patient\d+)_frame\d+)_gt\.nii(?:\.gz)?"):
        image = labels.with_name(labels.name.replace("_gt", ""))
        found.append(RawCase(match[1], match[2], (image,), labels))
    return found


def _synapse(folder: Path, made: Path) -> Found:
    found = []
    for labels, match in _matching(folder, "label*.nii*", r"label(\d{4})\.nii(?:\.gz)?"):
        image = labels.parent.with_name("img") / labels.name.replace("label", "img")
        found.append(RawCase(f"case{match[1]}", match[1], (image,), labels))
    return found


def _lits(folder: Path, made: Path) -> Found:
    found = []
    for labels, match in _matching(folder, "segmentation-*.nii*", r"segmentation-(\d+)\.nii(?:\.gz)?"):
        image = labels.with_name(labels.name.replace("segmentation", "volume"))
        found.append(RawCase(f"lits_{int(match[1]):03}", match[1], (image,), labels))
    return found


def _chest_xray(folder: Path, made: Path) -> Found:
    """Montgomery has a mask of each lung, Shenzhen one of both, and not for every image."""
    found = []
    for left, match in _matching(folder, "*.png", r"(MCUCXR_\d+_[01])\.png"):
        if left.parent.name == "leftMask":
            image = left.parent.parent.parent / "CXR_png" / left.name
            masks = [left, left.parent.with_name("rightMask") / left.name]
            found.append(RawCase(match[1], match[1], (image,), _united(made, match[1], masks)))
    for labels, match in _matching(folder, "*_mask.png", r"(CHNCXR_\d+_[01])_mask\.png"):
        places = [labels.parent.with_name("CXR_png"), labels.parent.parent.parent / "CXR_png"]
        images = [place / f"{match[1]}.png" for place in places]
        image = next((path for path in images if path.is_file()), images[0])
        found.append(RawCase(match[1], match[1], (image,), _united(made, match[1], [labels])))
    return found


def _amos_mri(folder: Path, made: Path) -> Found:
    """Of AMOS22, CT has the numbers up to 500 and MRI those above."""
    found = []
    for labels, match in _matching(folder, "amos_*.nii.gz", r"amos_(\d{4})\.nii\.gz"):
        if labels.parent.name in ("labelsTr", "labelsVa") and int(match[1]) > 500:
            image = labels.parent.with_name(labels.parent.name.replace("labels", "images")) / labels.name
            found.append(RawCase(f"amos_{match[1]}", match[1], (image,), labels))
    return found


def _flare22(folder: Path, made: Path) -> Found:
    found = []
    for labels, match in _matching(folder, "FLARE22_Tr_*.nii.gz", r"(FLARE22_Tr_\d{4})\.nii\.gz"):
        image = labels.parent.with_name("images") / f"{match[1]}_0000.nii.gz"
        found.append(RawCase(match[1], match[1], (image,), labels))
    return found


def _brats2021(folder: Path, made: Path) -> Found:
    found = []
    for labels, match in _matching(folder, "*_seg.nii.gz", r"(BraTS2021_\d{5})_seg\.nii\.gz"):
        images = tuple(labels.with_name(f"{match[1]}_{kind}.nii.gz") for kind in ("flair", "t1", "t1ce", "t2"))
        found.append(RawCase(match[1], match[1], images, labels))
    return found


# words in the names of EndoVis 2017's mask folders -> label; a tool that is on the left and the right has two folders
_INSTRUMENTS = {
    "bipolar": 1,
    "prograsp": 2,
    "large_needle_driver": 3,
    "vessel_sealer": 4,
    "grasping_retractor": 5,
    "monopolar_curved_scissors": 6,
    "other": 7,
}


def _endovis17(folder: Path, made: Path) -> Found:
    """Of every frame of a sequence, one mask for each instrument in it; a sequence is what the split keeps together."""
    found = []
    for image, match in _matching(folder, "frame*.png", r"(frame\d+)\.png"):
        sequence = image.parent.parent
        if image.parent.name != "left_frame" or not (sequence / "ground_truth").is_dir():
            continue
        masks = {
            tool / image.name: _instrument(tool.name)
            for tool in sorted((sequence / "ground_truth").iterdir())
            if tool.is_dir()
        }
        name = f"{sequence.name}_{match[1]}"
        found.append(RawCase(name, sequence.name, (image,), _labelled(made, name, masks)))
    return found


def _instrument(folder_name: str) -> int:
    text = folder_name.casefold()
    value = next((value for word, value in _INSTRUMENTS.items() if word in text), None)
    if value is None:
        raise ImageError(f"the mask folder {folder_name!r} names no instrument; known: {', '.join(_INSTRUMENTS)}")
    return value


def _neurips_cell(folder: Path, made: Path) -> Found:
    """Cells are numbered; a network of classes learns their inside and the borders between them."""
    found = []
    for labels, match in _matching(folder, "cell_*_label.tiff", r"(cell_\d+)_label\.tiff"):
        images = sorted(path for path in labels.parent.with_name("images").glob(f"{match[1]}.*") if path.is_file())
        if not images:
            raise ImageError(f"{labels} has no image {match[1]} in {labels.parent.with_name('images')}")
        target = made / f"{match[1]}.png"
        _write_labels(target, _inside_and_border(_picture(labels)))
        found.append(RawCase(match[1], match[1], (images[0],), target))
    return found


def _inside_and_border(instances: np.ndarray) -> np.ndarray:
    """1 inside each cell, 2 on its outermost pixels.

    As U-Mamba describes its conversion, cells become an inside and a boundary, whose connected insides are the cells
    again; how wide the boundary is, is not said: one pixel here.
    """
    from scipy import ndimage

    lowest, highest = ndimage.minimum_filter(instances, 3), ndimage.maximum_filter(instances, 3)
    border = (lowest != highest) & (instances > 0)
    return ((instances > 0).astype(np.uint8)) + border.astype(np.uint8)


def _united(made: Path, name: str, masks: Sequence[Path]) -> Path:
    return _labelled(made, name, dict.fromkeys(masks, 1))


def _labelled(made: Path, name: str, masks: Mapping[Path, int]) -> Path:
    """One label picture of several masks, later ones over earlier ones; what is not 0 belongs to a mask."""
    target = made / f"{name}.png"
    labels: np.ndarray | None = None
    for path, value in masks.items():
        mask = _picture(path) > 0
        if labels is None:
            labels = np.zeros(mask.shape, np.uint8)
        if mask.shape != labels.shape:
            raise ImageError(f"{path} is {mask.shape} pixels, the other masks of {name} are {labels.shape}")
        labels[mask] = value
    if labels is None:
        raise ImageError(f"{name} has no mask")
    _write_labels(target, labels)
    return target


def _picture(path: Path) -> np.ndarray:
    if not path.is_file():
        raise ImageError(f"{path} does not exist")
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture)
    except (OSError, ValueError) as problem:
        raise ImageError(f"cannot read the picture {path}: {problem}") from problem
    return pixels if pixels.ndim == 2 else pixels[..., :3].max(axis=-1)


def _write_labels(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, ConfigError) as temporary:
        Image.fromarray(labels).save(temporary, format="PNG")


_ABDOMEN = (
    "liver", "right kidney", "spleen", "pancreas", "aorta", "inferior vena cava", "right adrenal gland",
    "left adrenal gland", "gallbladder", "esophagus", "stomach", "duodenum", "left kidney",
)  # fmt: skip
_SYNAPSE_TESTS = ("0001", "0002", "0003", "0004", "0008", "0022", "0025", "0029", "0032", "0035", "0036", "0038")

_SLICES = ("augment.mirror_axes=[0, 1]", "loss.batch_dice=true")  # nnU-Net's rules for two dimensions
_UMAMBA = tuple(Recipe(name) for name in ("umamba_bot", "umamba_enc", "resenc_unet"))


def _swin(patch: str, epochs: int) -> tuple[Recipe, ...]:
    """Patches at which the paper counts operations, and the length that it says."""
    settings = (f"data.patch_size=[{patch}]", f"epochs={epochs}")
    return tuple(Recipe(name, settings) for name in ("swin_umamba", "swin_umamba_d"))


PROFILES: dict[str, Profile] = {
    "acdc": Profile(
        about="ACDC, cine MR of the heart (Mamba-UNet); slices of 224 x 224",
        find=_acdc,
        layout="patientNNN/patientNNN_frameNN.nii.gz with patientNNN_frameNN_gt.nii.gz",
        channels=("MR",),
        labels={1: "right ventricle", 2: "myocardium", 3: "left ventricle"},
        wishes=Wishes(resize=(224, 224), nearest=True, normalization="rescale_0_1"),
        recipes=(Recipe("mamba_unet"),),
    ),
    "synapse": Profile(
        about="Synapse, BTCV abdominal CT (Mamba-UNet); 8 organs, 18 cases for training and 12 for testing",
        find=_synapse,
        layout="img/imgNNNN.nii.gz and label/labelNNNN.nii.gz",
        channels=("CT",),
        labels={
            1: "aorta",
            2: "gallbladder",
            3: "left kidney",
            4: "right kidney",
            5: "liver",
            6: "pancreas",
            7: "spleen",
            8: "stomach",
        },
        stored={1: 7, 2: 4, 3: 3, 4: 2, 5: 0, 6: 5, 7: 8, 8: 1, 9: 0, 10: 0, 11: 6, 12: 0, 13: 0},
        validation=tuple(f"case{number}" for number in _SYNAPSE_TESTS),
        wishes=Wishes(resize=(224, 224)),
        recipes=(Recipe("mamba_unet"),),
    ),
    "lits": Profile(
        about="LiTS, liver and its tumours in CT (LightM-UNet, 3D)",
        find=_lits,
        layout="volume-N.nii and segmentation-N.nii",
        channels=("CT",),
        labels={1: "liver", 2: "tumour"},
        recipes=(Recipe("lightm_unet", ("data.patch_size=[128, 128, 128]",)),),
    ),
    "montgomery_shenzhen": Profile(
        about="Montgomery and Shenzhen, lungs in chest X-rays (LightM-UNet, 2D)",
        find=_chest_xray,
        layout="MontgomerySet/CXR_png with ManualMask/leftMask and rightMask, CXR_png and mask of Shenzhen",
        channels=("X-ray",),
        labels={1: "lung"},
        recipes=(
            Recipe(
                "lightm_unet",
                (
                    "network.options.spatial_dims=2",
                    "data.patch_size=[512, 512]",
                    "data.batch_size=12",
                    "augment.mirror_axes=[0, 1]",
                ),
            ),
        ),
    ),
    "amos_mri": Profile(
        about="AMOS22, its MRI, 13 organs (AbdomenMRI of U-Mamba and Swin-UMamba)",
        find=_amos_mri,
        layout="imagesTr/amos_NNNN.nii.gz and labelsTr/amos_NNNN.nii.gz, MRI above 0500",
        channels=("MR",),
        labels=dict(enumerate(_ABDOMEN, start=1)),
        # AMOS: spleen, right kidney, left kidney, gallbladder, esophagus, liver, stomach, aorta, vena cava, pancreas,
        # right and left adrenal gland, duodenum, bladder, prostate or uterus
        stored={1: 3, 2: 2, 3: 13, 4: 9, 5: 10, 6: 1, 7: 11, 8: 5, 9: 6, 10: 4, 11: 7, 12: 8, 13: 12, 14: 0, 15: 0},
        recipes=(*_UMAMBA, *_swin("320, 320", 100)),
    ),
    "endovis17": Profile(
        about="EndoVis 2017, 7 kinds of instruments in endoscopy (U-Mamba and Swin-UMamba)",
        find=_endovis17,
        layout="instrument_dataset_N/left_frame/frameNNN.png with ground_truth/TOOL_labels/frameNNN.png",
        channels=COLOURS,
        labels={
            1: "bipolar forceps",
            2: "prograsp forceps",
            3: "large needle driver",
            4: "vessel sealer",
            5: "grasping retractor",
            6: "monopolar curved scissors",
            7: "other",
        },
        recipes=(*(replace(recipe, settings=_SLICES) for recipe in _UMAMBA), *_swin("384, 640", 350)),
    ),
    "neurips_cell": Profile(
        about="NeurIPS 2022 cell segmentation in microscopy (U-Mamba and Swin-UMamba); inside and boundary of cells",
        find=_neurips_cell,
        layout="images/cell_NNNNN.* and labels/cell_NNNNN_label.tiff",
        channels=COLOURS,
        labels={1: "inside", 2: "boundary"},
        recipes=(*(replace(recipe, settings=_SLICES) for recipe in _UMAMBA), *_swin("512, 512", 450)),
    ),
    "flare22": Profile(
        about="FLARE22, 13 organs in abdominal CT (U-Mamba); its 50 labelled cases",
        find=_flare22,
        layout="images/FLARE22_Tr_NNNN_0000.nii.gz and labels/FLARE22_Tr_NNNN.nii.gz",
        channels=("CT",),
        labels=dict(enumerate(_ABDOMEN, start=1)),
        recipes=(*_UMAMBA, Recipe("mambaclinix")),
    ),
    "brats2021": Profile(
        about="BraTS 2021, brain tumours in four MR sequences, as three regions that lie in one another",
        find=_brats2021,
        layout="BraTS2021_NNNNN/BraTS2021_NNNNN_{flair,t1,t1ce,t2,seg}.nii.gz",
        channels=("FLAIR", "T1", "T1ce", "T2"),
        labels={1: "oedema", 2: "necrosis", 3: "enhancing tumour"},
        stored={1: 2, 2: 1, 4: 3},
        regions=(
            Region("whole tumour", (1, 2, 3), 1),
            Region("tumour core", (2, 3), 2),
            Region("enhancing tumour", (3,), 3),
        ),
        recipes=(Recipe("resenc_unet"), Recipe("umamba_bot")),
    ),
}
