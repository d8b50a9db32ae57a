"""Contrastive and triplet loss against their formulas in float64, and the losses of pytorch-metric-learning."""

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses
from torch import Tensor

from glam.errors import GlamError
from glam.training.losses import LOSSES, LossContext, create_loss

CONTEXT = LossContext(landmarks=4, dim=6, batch_size=8)
IMAGES = torch.zeros(8, 3, 2, 2)


def batch() -> tuple[Tensor, Tensor]:
    """(8, 6) descriptors of unit length, and their landmark ids: one landmark has a single image."""
    drawn = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    return F.normalize(drawn, dim=1), torch.tensor([0, 0, 0, 1, 1, 2, 2, 3])


@pytest.mark.parametrize("negatives", [1, 3, 50])
def test_contrastive_is_its_formula_over_pairs_and_nearest_negatives(negatives: int) -> None:
    descriptors, landmarks = batch()
    x = descriptors.double()
    pulled, pushed = [], []
    for i in range(8):
        distances = [(float((x[i] - x[j]).norm()), j) for j in range(8) if j != i]
        pulled += [d**2 / 2 for d, j in distances if landmarks[j] == landmarks[i]]
        nearest = sorted(d for d, j in distances if landmarks[j] != landmarks[i])[:negatives]
        pushed += [max(0.0, 1.3 - d) ** 2 / 2 for d in nearest]
    loss = create_loss({"name": "contrastive", "margin": 1.3, "negatives": negatives}, CONTEXT)
    expected = sum(pulled) / len(pulled) + sum(pushed) / len(pushed)
    assert float(loss(descriptors, landmarks, IMAGES)) == pytest.approx(expected, rel=1e-5)


def test_triplet_is_its_formula_over_the_hardest_pairs() -> None:
    descriptors, landmarks = batch()
    x = descriptors.double()
    terms = []
    for i in range(7):  # the landmark of the last image has no other image
        squares = [
            (float((x[i] - x[j]).square().sum()), bool(landmarks[j] == landmarks[i])) for j in range(8) if j != i
        ]
        positive, negative = max(s for s, same in squares if same), min(s for s, same in squares if not same)
        terms.append(max(0.0, positive - negative + 0.4))
    loss = create_loss({"name": "triplet", "margin": 0.4}, CONTEXT)
    assert float(loss(descriptors, landmarks, IMAGES)) == pytest.approx(sum(terms) / 7, rel=1e-5)


@pytest.mark.parametrize("name", ["contrastive", "triplet"])
@pytest.mark.parametrize("landmarks", [[0, 1, 2], [0, 0, 0], [0]], ids=str)
def test_a_batch_without_pairs_has_finite_gradients(name: str, landmarks: list[int]) -> None:
    features = torch.ones(len(landmarks), 6, requires_grad=True)  # the same image three times
    loss = create_loss({"name": name}, CONTEXT)(F.normalize(features, dim=1), torch.tensor(landmarks), IMAGES)
    loss.backward()
    assert math.isfinite(float(loss))
    assert features.grad is not None
    assert bool(torch.isfinite(features.grad).all())


def of_library() -> list[str]:
    return [name for name in LOSSES.names() if hasattr(losses, name)]


@pytest.mark.parametrize("name", of_library())
def test_a_loss_of_the_library_is_made_by_its_name(name: str) -> None:
    torch.manual_seed(0)
    required = {"RankedListLoss": {"margin": 0.4, "Tn": 10}}
    loss = create_loss({"name": name, **required.get(name, {})}, CONTEXT)
    features = torch.randn(8, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    value = loss(F.normalize(features, dim=1), batch()[1], IMAGES)
    value.backward()
    assert math.isfinite(float(value))
    assert features.grad is not None
    has_centers = any(parameter.ndim == 2 for parameter in loss.parameters())
    assert loss.needs_pairs is not has_centers or name in ("P2SGradLoss", "SoftTripleLoss")


def test_options_reach_a_loss_of_the_library() -> None:
    descriptors, landmarks = batch()
    loss = create_loss({"name": "NTXentLoss", "temperature": 0.5}, CONTEXT)
    expected = losses.NTXentLoss(temperature=0.5)(descriptors, landmarks)
    torch.testing.assert_close(loss(descriptors, landmarks, IMAGES), expected)


def test_an_unknown_loss_is_named_with_the_known_ones() -> None:
    with pytest.raises(GlamError, match=r"no loss named 'cosface'. Choose one of .*CosFaceLoss.*contrastive"):
        create_loss({"name": "cosface"}, CONTEXT)
    with pytest.raises(GlamError, match="Name them with --teachers"):
        create_loss({"name": "distillation"}, CONTEXT)
