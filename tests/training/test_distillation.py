"""Distillation: the loss, teachers that are trained first, and backbones with another stride."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import glam
from glam.errors import GlamError
from glam.network import Architecture, DescriptorNetwork
from glam.training.cli import train
from glam.training.losses.distillation import SCALES, SQUARES, TEMPERATURE, Distillation, _off_diagonal, cutmix

Draw = Callable[..., Image.Image]

NO_LANDMARKS = torch.empty(0, dtype=torch.long)
HALF = (0.5, 0.5, 0.5)
TINY: dict[str, Any] = {"backbone": "mobilenetv3_small_050", "dim": 8, "attention": None}


def network(seed: int) -> DescriptorNetwork:
    torch.manual_seed(seed)
    return DescriptorNetwork(Architecture(**TINY)).eval()


def few_landmarks(folder: Path, draw_image: Draw) -> list[str]:
    """Draws two views of four landmarks; returns arguments that train a small network on them."""
    for landmark in range(4):
        (folder / str(landmark)).mkdir()
        for view in range(2):
            draw_image(48, 48, 10 * landmark + view).save(folder / str(landmark) / f"{view}.png")
    arguments = ["--model.backbone", "mobilenetv3_small_050", "--model.pretrained", "false", "--data.size", "64"]
    return [*arguments, "--data.val_share", "0.3", "--data.train", str(folder), "--out", str(folder / "run")]


def test_others_are_the_cosines_but_those_with_itself() -> None:
    table = torch.arange(16.0).view(4, 4)
    expected = torch.stack([torch.cat([row[:i], row[i + 1 :]]) for i, row in enumerate(table)])
    assert torch.equal(_off_diagonal(table), expected)


def test_the_loss_is_its_definition() -> None:
    """The reference is computed image by image, in float64, from the teachers' descriptors at each scale."""
    teachers, images = [network(1), network(2)], torch.randn(5, 3, 64, 96)
    loss = Distillation(teachers, teachers[0].backbone.mean, teachers[0].backbone.std)
    descriptors = F.normalize(torch.randn(5, 16), dim=1)
    with torch.no_grad():
        rows = []
        for teacher in teachers:
            views = [images, F.interpolate(images, size=(96, 128), mode="bilinear", align_corners=False)]
            assert [round(64 * scale / 16) * 16 for scale in SCALES] == [64, 96]
            rows.append(F.normalize(teacher(views[0]) + teacher(views[1]), dim=1).double())
    wanted, found = (x @ x.T for x in (torch.cat(rows, dim=1) / 2**0.5, descriptors.double()))
    total = 0.0
    for i in range(5):
        others = [j for j in range(5) if j != i]
        p, q = ((x[i, others] / TEMPERATURE).softmax(dim=0) for x in (wanted, found))
        total += SQUARES * (wanted - found)[i, others].square().sum() / 20 + (p * (p / q).log()).sum() / 5
    torch.testing.assert_close(
        loss(descriptors, NO_LANDMARKS, images).double(), torch.as_tensor(total), rtol=1e-4, atol=1e-5
    )


def test_nothing_is_left_to_learn_from_oneself() -> None:
    teacher, images = network(1), torch.randn(4, 3, 64, 64)
    loss = Distillation([teacher], teacher.backbone.mean, teacher.backbone.std)
    teacher_descriptors = loss.teacher_descriptors(images)
    turned = teacher_descriptors @ torch.linalg.qr(torch.randn(8, 8))[0]
    assert float(loss(turned, NO_LANDMARKS, images)) < 1e-5
    assert float(loss(F.normalize(torch.randn(4, 8), dim=1), NO_LANDMARKS, images)) > 1


def test_teachers_see_images_in_their_own_normalization() -> None:
    teacher, pixels = network(1), torch.rand(3, 3, 64, 64)
    own = torch.tensor([teacher.backbone.mean, teacher.backbone.std])[:, :, None, None]
    loss = Distillation([teacher], HALF, HALF)
    expected = Distillation([teacher], teacher.backbone.mean, teacher.backbone.std).teacher_descriptors(
        (pixels - own[0]) / own[1]
    )
    torch.testing.assert_close(loss.teacher_descriptors((pixels - 0.5) / 0.5), expected, rtol=1e-4, atol=1e-4)


def test_an_image_alone_teaches_nothing() -> None:
    loss, descriptors = Distillation([network(1)], HALF, HALF), torch.ones(1, 4, requires_grad=True)
    assert float(loss(descriptors, NO_LANDMARKS, torch.randn(1, 3, 64, 64)).detach()) == 0


def test_a_patched_image_is_of_two_images_in_place() -> None:
    torch.manual_seed(0)
    images = torch.arange(64.0).view(64, 1, 1, 1).expand(64, 3, 32, 48)
    result = cutmix(images)
    assert result.shape == images.shape
    foreign = result != images
    assert all(len(image.unique()) <= 2 for image in result)
    assert torch.equal(foreign[:, 0], foreign[:, 2])
    assert 0.2 < float(foreign.float().mean()) < 0.5
    rows = foreign[:, 0].any(dim=2).sum(dim=1)
    columns = foreign[:, 0].any(dim=1).sum(dim=1)
    assert torch.equal(rows * columns, foreign[:, 0].flatten(1).sum(dim=1)), "a rectangle"


def test_only_teachers_can_say_what_a_patched_image_shows(tmp_path: Path, draw_image: Draw) -> None:
    arguments = few_landmarks(tmp_path, draw_image)
    with pytest.raises(GlamError, match="only a run with teachers"):
        train([*arguments, "--model.dim", "2", "--model.patched", "0.5"])


def test_teachers_are_made_once_and_a_student_learns_from_them(
    tmp_path: Path, draw_image: Draw, capfd: pytest.CaptureFixture[str]
) -> None:
    for landmark in range(6):
        folder = tmp_path / "landmarks" / str(landmark)
        folder.mkdir(parents=True)
        for view in range(4):
            draw_image(72, 64, 10 * landmark + view).save(folder / f"{view}.png")
    small = (
        "--model.backbone mobilenetv3_small_050 --model.pretrained false --model.dim 8 --model.attention null "
        "--data.size 64 --data.batch_size 8 --data.workers 0 --trainer.max_epochs 1 --trainer.accelerator cpu"
    )
    student = small.replace("mobilenetv3_small_050", "tf_efficientnet_lite0")
    arguments = [*student.split(), "--data.train", str(tmp_path / "landmarks"), "--data.val_share", "0.3"]
    arguments += ["--teachers", f"['{small} --data.val_share 0.3', '{small} --data.val_share 0.3 --data.seed 1']"]
    arguments += ["--model.stride", "16", "--model.patched", "1", "--out", str(tmp_path / "run")]
    arguments += ["--data.exclude", "*.tmp", "--data.landmark_from", "parent"]
    path = train(arguments)
    assert capfd.readouterr().out.count("glam train") == 2
    model = glam.load(path, "cpu")
    assert model.network.architecture.stride == 16
    assert model.network.backbone(torch.zeros(1, 3, 64, 64)).map.shape[2:] == (4, 4)
    teachers = [glam.load(tmp_path / "run" / "teachers" / n / "model.safetensors", "cpu") for n in "01"]
    assert teachers[0].fingerprint != teachers[1].fingerprint
    config = (tmp_path / "run" / "teachers" / "0" / "config.yaml").read_text()
    assert "exclude:\n  - '*.tmp'" in config, "a teacher sees the images of its student"
    assert "landmark_from: parent" in config
    train([*arguments, "--resume", "--trainer.max_epochs", "2"])
    assert "glam train" not in capfd.readouterr().out


def test_a_teacher_that_cannot_be_trained_is_named(tmp_path: Path, draw_image: Draw) -> None:
    arguments = few_landmarks(tmp_path, draw_image)
    with pytest.raises(GlamError, match="Teacher 0 could not be trained"):
        train([*arguments, "--model.dim", "2", "--teachers", "['--no_such 1']"])


@pytest.mark.parametrize(("stride", "side"), [(None, 2), (16, 4), (8, 8)])
def test_a_smaller_stride_gives_a_finer_map_of_the_same_weights(stride: int | None, side: int) -> None:
    plain = DescriptorNetwork(Architecture("tf_efficientnet_lite0", 8, None)).state_dict()
    network = DescriptorNetwork(Architecture("tf_efficientnet_lite0", 8, None, stride=stride))
    network.load_state_dict(plain)
    assert network.backbone(torch.zeros(1, 3, 64, 64)).map.shape[2:] == (side, side)


def test_a_backbone_without_strides_says_so() -> None:
    with pytest.raises(GlamError, match="does not support another stride"):
        DescriptorNetwork(Architecture("vit_tiny_patch16_224", 8, None, stride=16))
