import numpy as np
import pytest
import torch
from torch import nn

from vidlatent.errors import BadInput, BadWeights
from vidlatent.metrics.lpips import ALEX, VGG, Lpips, load_weights, run_backbone

OFFICIAL = {"p0": 0.7219, "p1": 0.1376}  # the authors' example images and numbers
STORED = [0.2373049669951619, 0.2581656184784612, 0.2368564865470315]  # this graph, which gives OFFICIAL
FLOAT32 = 1e-5


@pytest.mark.parametrize(("name", "expected"), OFFICIAL.items())
def test_official_images_score_as_published(shared, name, expected):
    images = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    folder = shared / "weights" / "lpips_example"
    frames = [np.array(images.open(folder / f"ex_{n}.png").convert("RGB")) for n in ("ref", name)]
    metric = Lpips()
    metric.update(*(torch.from_numpy(frame)[None] for frame in frames))
    assert metric.result()["mean"] == pytest.approx(expected, abs=1e-4)


def test_values_equal_the_stored_ones(pair):
    metric = Lpips()
    metric.update(*pair())
    assert metric.per_frame() == pytest.approx(STORED, abs=FLOAT32)


def test_identical_clips_are_at_distance_zero(pair):
    reference, _ = pair(2, 64, 64)
    metric = Lpips()
    metric.update(reference, reference)
    assert metric.result() == {"mean": 0.0, "worst": 0.0}


def test_the_spatial_mean_is_near_the_plain_one_but_not_it(pair):
    plain, spatial = Lpips(), Lpips(spatial=True)
    for metric in (plain, spatial):
        metric.update(*pair(1))
    gap = abs(plain.result()["mean"] - spatial.result()["mean"])
    assert 0 < gap < 0.01
    assert "full-size map" in spatial.protocol


def alexnet() -> nn.Sequential:
    relu, pool = nn.ReLU, lambda: nn.MaxPool2d(3, 2)
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), relu(), pool(), nn.Conv2d(64, 192, 5, padding=2), relu(), pool()),
        *(nn.Conv2d(192, 384, 3, padding=1), relu(), nn.Conv2d(384, 256, 3, padding=1), relu()),
        *(nn.Conv2d(256, 256, 3, padding=1), relu()),
    )


def vgg16() -> nn.Sequential:
    layers, channels = [], 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2, 2)]
        channels = width or channels
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("backbone", "network", "ends"),
    [(ALEX, alexnet, (2, 5, 8, 10, 12)), (VGG, vgg16, (4, 9, 16, 23, 30))],
)
@torch.inference_mode()
def test_the_backbone_looks_after_the_same_layers_as_torchvision(backbone, network, ends):
    torch.manual_seed(0)
    layers = network()
    weights = {f"features.{key}": value for key, value in layers.state_dict().items()}
    x = torch.randn(1, 3, 48, 40)
    for end, seen in zip(ends, run_backbone(backbone, weights, x), strict=True):
        assert torch.equal(seen, layers[:end](x))


def test_vgg_weights_come_from_a_file_of_the_users(pair, tmp_path):
    torch.manual_seed(0)
    arrays = {f"features.{key}": value.numpy() for key, value in vgg16().state_dict().items()}
    heads = {f"lin{i}": np.full(width, 0.1, np.float32) for i, width in enumerate((64, 128, 256, 512, 512))}
    np.savez(tmp_path / "vgg.npz", **arrays, **heads)
    metric = Lpips(VGG, tmp_path / "vgg.npz")
    metric.update(*pair(1, 32, 32))
    assert metric.name == "lpips-vgg"
    assert metric.result()["mean"] > 0


def test_weights_of_the_other_backbone_are_refused_by_key(tmp_path):
    with pytest.raises(BadWeights, match=r"not the LPIPS weights of vgg: features\.\d+\.\w+ is missing"):
        load_weights(Lpips().source, VGG)


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(b"not weights")
    with pytest.raises(BadWeights, match="cannot be read as weights"):
        load_weights(path, ALEX)


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    with np.load(Lpips().source) as file:
        arrays = dict(file)
    arrays["lin3"] = np.full_like(arrays["lin3"], np.nan)
    np.savez(tmp_path / "nan.npz", **arrays)
    with pytest.raises(BadWeights, match="lin3 holds NaN"):
        load_weights(tmp_path / "nan.npz", ALEX)


def test_frames_the_network_cannot_look_at_are_refused():
    small = torch.zeros((1, 30, 64, 3), dtype=torch.uint8)
    with pytest.raises(BadInput, match="frames of 64×30 are too small"):
        Lpips().update(small, small)
