"""Each of the papers' data sets from a tiny tree of its layout: cases, channels, labels, patients, split."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mambasegment_training.cli import main
from mambasegment_training.config import load_config
from mambasegment_training.fingerprint import Wishes
from mambasegment_training.network import planned_patch_size
from mambasegment_training.pictures import COLOURS
from mambasegment_training.plan import plan_networks
from mambasegment_training.prepare import PreparedDataset, prepare
from mambasegment_training.profiles import PROFILES, profile_named
from PIL import Image

from MambaSegmentLib.errors import ConfigError, ImageError
from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.volume import Volume

SHAPE = (6, 20, 24)


def box(value: int, shape: tuple[int, ...] = SHAPE) -> tuple[slice, ...]:
    """A place of its own for each of up to 20 labels."""
    row, column = divmod(value, 6)
    return (*(slice(None),) * (len(shape) - 2), slice(5 * row, 5 * row + 4), slice(4 * column, 4 * column + 3))


def volume(path: Path, values=(), seed=0) -> None:
    """Labels with a box for each value, or without values an image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.float32)
    if values:
        array = np.zeros(SHAPE, np.uint8)
        for place, value in enumerate(values):
            array[box(place)] = value
    write_volume(Volume(array, (1.5, 1.5, 5.0)), path)


def picture(path: Path, mask=None, colour=False, seed=0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, 256, (20, 24, 3) if colour else (20, 24)).astype(np.uint8)
    Image.fromarray(array if mask is None else mask).save(path)


def mask_of(place: int, value: int = 255) -> np.ndarray:
    mask = np.zeros((20, 24), np.uint8)
    mask[box(place, (20, 24))] = value
    return mask


def acdc(root: Path) -> None:
    for patient in range(1, 6):
        for frame in (1, 12):
            stem = root / "training" / f"patient{patient:03}" / f"patient{patient:03}_frame{frame:02}"
            volume(stem.with_suffix(".nii.gz"), seed=patient * frame)
            volume(stem.with_name(stem.name + "_gt.nii.gz"), (1, 2, 3))
        volume(stem.with_name(f"patient{patient:03}_4d.nii.gz"), seed=99)


def synapse(root: Path) -> None:
    for number in (*PROFILES["synapse"].validation, "case0005", "case0040"):
        volume(root / "img" / number.replace("case", "img").__add__(".nii.gz"), seed=int(number[4:]))
        volume(root / "label" / number.replace("case", "label").__add__(".nii.gz"), tuple(range(1, 14)))


def lits(root: Path) -> None:
    for number in range(3):
        volume(root / f"Training Batch {number % 2 + 1}" / f"volume-{number}.nii", seed=number)
        volume(root / f"Training Batch {number % 2 + 1}" / f"segmentation-{number}.nii", (1, 2))


def chest(root: Path) -> None:
    for number in (1, 2):
        picture(root / "MontgomerySet" / "CXR_png" / f"MCUCXR_000{number}_0.png", seed=number)
        for place, side in enumerate(("leftMask", "rightMask")):
            path = root / "MontgomerySet" / "ManualMask" / side / f"MCUCXR_000{number}_0.png"
            picture(path, mask_of(place))
    for number in (1, 2):
        picture(root / "Shenzhen" / "CXR_png" / f"CHNCXR_000{number}_1.png", seed=number + 5)
    picture(root / "Shenzhen" / "mask" / "CHNCXR_0001_1_mask.png", mask_of(0) | mask_of(1))  # not of every image


def amos(root: Path) -> None:
    for number in (1, 507, 508, 600):
        volume(root / "imagesTr" / f"amos_{number:04}.nii.gz", seed=number)
        volume(root / "labelsTr" / f"amos_{number:04}.nii.gz", tuple(range(1, 16)))


def flare(root: Path) -> None:
    for number in (1, 2):
        volume(root / "images" / f"FLARE22_Tr_{number:04}_0000.nii.gz", seed=number)
        volume(root / "labels" / f"FLARE22_Tr_{number:04}.nii.gz", tuple(range(1, 14)))


def brats(root: Path) -> None:
    for number in (0, 2, 3):
        name = f"BraTS2021_{number:05}"
        for place, kind in enumerate(("flair", "t1", "t1ce", "t2")):
            volume(root / name / f"{name}_{kind}.nii.gz", seed=10 * number + place)
        volume(root / name / f"{name}_seg.nii.gz", (1, 2, 4))


def endovis(root: Path) -> None:
    tools = ("Bipolar_Forceps_labels", "Left_Prograsp_Forceps_labels", "Right_Prograsp_Forceps_labels",
             "Large_Needle_Driver_labels", "Vessel_Sealer_labels", "Grasping_Retractor_labels",
             "Monopolar_Curved_Scissors_labels", "Other_labels")  # fmt: skip
    for sequence in (1, 2):
        for frame in range(2):
            place = root / f"instrument_dataset_{sequence}"
            picture(place / "left_frame" / f"frame{frame:03}.png", colour=True, seed=9 * sequence + frame)
            picture(place / "right_frame" / f"frame{frame:03}.png", colour=True, seed=50 + frame)
            for number, tool in enumerate(tools):
                picture(place / "ground_truth" / tool / f"frame{frame:03}.png", mask_of(number, 20))


def cells(root: Path) -> None:
    for number, ending in enumerate(("png", "bmp", "tif"), start=1):
        picture(root / "images" / f"cell_{number:05}.{ending}", colour=number != 1, seed=number)
        instances = np.zeros((20, 24), np.uint16)
        instances[2:7, 2:7], instances[2:7, 7:12], instances[12:17, 3:10] = 300, 301, 302  # two touch
        picture(root / "labels" / f"cell_{number:05}_label.tiff", instances)


TREES: dict[str, Callable[[Path], None]] = {
    "acdc": acdc, "synapse": synapse, "lits": lits, "montgomery_shenzhen": chest, "amos_mri": amos,
    "endovis17": endovis, "neurips_cell": cells, "flare22": flare, "brats2021": brats,
}  # fmt: skip


@pytest.fixture
def prepared_as(tmp_path: Path) -> Callable[..., PreparedDataset]:
    def make(name: str, **options) -> PreparedDataset:
        TREES[name](tmp_path / name)
        return prepare(tmp_path / name, tmp_path / "work", profile=name, **options)

    return make


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_profile_prepares_a_tree_of_its_layout(prepared_as, name):
    dataset = prepared_as(name, wishes=Wishes(resize=SHAPE[1:]))  # as large as they are: quick
    profile = PROFILES[name]
    assert (dataset.name, dataset.channels, dataset.labels) == (name, profile.channels, profile.labels)
    assert dataset.regions == profile.regions
    for case in dataset.sources:
        image, labels = (np.load(dataset.folder / "cases" / f"{case}.{kind}.npy") for kind in ("image", "labels"))
        assert len(image) == len(profile.channels)
        assert set(np.unique(labels)) == {0, *profile.labels}
        assert dataset.read_source(case)[1].array.max() == max(profile.labels)


def test_acdc_keeps_both_frames_of_a_patient_together_on_small_slices(prepared_as):
    dataset = prepared_as("acdc")
    assert len(dataset.sources) == 10  # the 4D files are no cases
    for fold in dataset.folds:
        assert not {case[:10] for case in fold.train} & {case[:10] for case in fold.validation}
    assert dataset.plan.topologies[2].patch_size == (224, 224)
    assert np.load(dataset.folder / "cases" / "patient001_frame01.image.npy").shape == (1, 6, 224, 224)
    assert dataset.preprocessing.normalization[0].kind == "rescale_0_1"


def test_what_a_user_wants_goes_over_what_a_paper_does(prepared_as):
    dataset = prepared_as("acdc", wishes=Wishes(resize=(32, 32)))
    assert dataset.preprocessing.size == (None, 32, 32)
    assert dataset.preprocessing.resampling_order == 0


def test_synapse_tests_on_the_twelve_cases_of_its_list(prepared_as):
    dataset = prepared_as("synapse", wishes=Wishes(resize=SHAPE[1:]))
    assert dataset.split.train == ("case0005", "case0040")
    assert len(dataset.split.validation) == 12
    assert len(dataset.folds) == 1
    stored, labels = (np.zeros(SHAPE), dataset.read_source("case0005")[1].array)
    for place, value in enumerate((7, 4, 3, 2, 0, 5, 8, 1, 0, 0, 6, 0, 0)):  # of BTCV's 13 organs, in its order
        stored[box(place)] = value
    np.testing.assert_array_equal(labels, stored)


def test_a_case_of_the_list_that_is_missing(prepared_as, tmp_path):
    synapse(tmp_path / "synapse")
    for kind in ("img", "label"):
        (tmp_path / "synapse" / kind / f"{kind}0008.nii.gz").unlink()
    with pytest.raises(ConfigError, match="the paper tests on case0008, which is not in the data set"):
        prepare(tmp_path / "synapse", tmp_path / "work", profile="synapse")


def test_amos_takes_mri_alone(prepared_as):
    dataset = prepared_as("amos_mri")
    assert sorted(dataset.sources) == ["amos_0507", "amos_0508", "amos_0600"]
    labels = dataset.read_source("amos_0507")[1].array
    names = [dataset.labels.get(int(labels[box(place)][0, 0, 0])) for place in range(15)]
    assert names[:3] == ["spleen", "right kidney", "left kidney"]
    assert names[5:8] == ["liver", "stomach", "aorta"]
    assert names[12:] == ["duodenum", None, None]


def test_lungs_are_united(prepared_as):
    dataset = prepared_as("montgomery_shenzhen")
    assert sorted(dataset.sources) == ["CHNCXR_0001_1", "MCUCXR_0001_0", "MCUCXR_0002_0"]
    masks = [dataset.read_source(case)[1].array for case in ("CHNCXR_0001_1", "MCUCXR_0001_0")]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert masks[0].sum() == 2 * 12


def test_sequences_of_endoscopy_stay_together(prepared_as):
    dataset = prepared_as("endovis17")
    assert len(dataset.folds) == 2
    for fold in dataset.folds:
        assert len({case.rsplit("_", 1)[0] for case in fold.train}) == 1
    labels = dataset.read_source("instrument_dataset_1_frame000")[1].array[0]
    assert [int(labels[box(place, (20, 24))][0, 0]) for place in range(8)] == [1, 2, 2, 3, 4, 5, 6, 7]


def test_cells_that_touch_have_a_border_between_their_insides(prepared_as):
    from scipy import ndimage

    labels = prepared_as("neurips_cell").read_source("cell_00002")[1].array[0]
    assert ndimage.label(labels == 1)[1] == 3  # as many as there are cells
    assert np.count_nonzero(labels == 1) == 9 + 9 + 15  # the outermost pixels of 5 x 5, 5 x 5 and 5 x 7 are border


def test_regions_of_brain_tumours(prepared_as):
    dataset = prepared_as("brats2021")
    assert dataset.output_count == 3
    labels = dataset.read_source("BraTS2021_00000")[1].array
    assert [int(labels[box(place)][0, 0, 0]) for place in range(3)] == [2, 1, 3]  # stored as 1, 2 and 4


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("acdc", ConfigError, r"has no case of the profile 'acdc'; expected patientNNN/"),
        ("promise12", ConfigError, r"unknown profile 'promise12'; known: acdc, synapse"),
    ],
)
def test_folders_and_names_that_do_not_fit(tmp_path, name, error, message):
    with pytest.raises(error, match=message):
        prepare(tmp_path, tmp_path / "work", profile=name)


def test_a_missing_image(tmp_path):
    brats(tmp_path / "set")
    (tmp_path / "set" / "BraTS2021_00002" / "BraTS2021_00002_t1ce.nii.gz").unlink()
    with pytest.raises(ImageError, match=r"case BraTS2021_00002 lacks .*BraTS2021_00002_t1ce\.nii\.gz"):
        profile_named("brats2021").dataset("brats2021", tmp_path / "set", tmp_path / "made")


def test_labels_of_a_profile_are_not_the_users(prepared_as):
    with pytest.raises(ConfigError, match="the profile 'lits' knows patients and labels itself"):
        prepared_as("lits", label_names={1: "liver"})


CONFIGS = Path(__file__).parents[2] / "training" / "configs"
RECIPES = [(name, recipe) for name, profile in PROFILES.items() for recipe in profile.recipes]


@pytest.mark.parametrize(("name", "recipe"), RECIPES, ids=[f"{name}-{recipe.config}" for name, recipe in RECIPES])
def test_recipes_of_the_papers_fit_their_profiles(prepared, name, recipe):
    """The network is built for the profile's channels and labels, and takes the patch of the recipe or of the plan."""
    profile = PROFILES[name]
    flat = profile.channels in (COLOURS, ("X-ray",))
    shape = (1, 512, 640) if flat else (60, *(profile.wishes.resize or (256, 256)))
    as_prepared = replace(
        prepared,
        channels=profile.channels,
        labels=dict(profile.labels),
        regions=profile.regions,
        plan=plan_networks([shape], (1.0, 1.0, 1.0), 3),
    )
    config = load_config(CONFIGS / f"{recipe.config}.toml", recipe.settings)
    patch = planned_patch_size(as_prepared, config)
    assert patch == (config.data.patch_size or as_prepared.plan.topologies[len(patch)].patch_size)
    assert len(patch) == 2 or not flat


def test_every_profile_has_a_recipe_whose_command_is_shown(tmp_path, capsys):
    assert all(profile.recipes for profile in PROFILES.values())
    lits(tmp_path / "lits")
    assert main(["prepare", str(tmp_path / "lits"), "-o", str(tmp_path / "work"), "--profile", "lits"]) == 0
    expected = '--config training/configs/lightm_unet.toml --set "data.patch_size=[128, 128, 128]"'
    assert expected in capsys.readouterr().out
