"""Recipes for vision transformers: each trains, and leaves a model that describes images, with random weights."""

from pathlib import Path

import numpy as np
import pytest
import timm
import yaml
from PIL import Image

import glam
from glam.training.cli import train
from glam.training.configs import bundled_configs

RECIPES = ("dinov2", "dinov3", "siglip2", "pe_core")
SMALL = {"vit_base_patch16_siglip_256.v2_webli": "vit_base_patch32_siglip_256.v2_webli"}
"""A smaller network of the same family, where the one of a recipe takes long."""


def backbone(recipe: str) -> str:
    return str(yaml.safe_load(bundled_configs()[recipe].read_text(encoding="utf-8"))["model"]["backbone"])


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_and_describes(recipe: str, tmp_path: Path) -> None:
    """Weights of a hub are replaced by random ones, and the start that depends on them."""
    photos = tmp_path / "photos"
    for landmark in range(3):
        (photos / str(landmark)).mkdir(parents=True)
        for view in range(2):
            pixels = np.random.default_rng([landmark, view]).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(photos / str(landmark) / f"{view}.png")
    name = backbone(recipe)
    small = ("--model.backbone", SMALL.get(name, name), "--model.pretrained", "false", "--model.start", "random")
    data = ("--data.train", str(photos), "--data.val", str(photos), "--data.size", "64", "--data.val_size", "64")
    limits = (
        "--data.workers",
        "0",
        "--data.batch_size",
        "4",
        "--trainer.max_steps",
        "1",
        "--trainer.accelerator",
        "cpu",
    )
    model = glam.load(train(["--config", recipe, *small, *data, *limits, "--out", str(tmp_path / "run")]), "cpu")
    described = model.describe([Image.new("RGB", (120, 80)), Image.new("RGB", (50, 90))])
    assert described.shape == (2, 512)
    assert bool(np.isfinite(described).all())


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_names_the_license_of_its_weights(recipe: str) -> None:
    text = bundled_configs()[recipe].read_text(encoding="utf-8").replace("\n#", "")
    names = {"apache-2.0": "Apache-2.0", "dinov3-license": "DINOv3 License"}
    assert f"Weights: {names[timm.get_pretrained_cfg(backbone(recipe)).license]}" in text
