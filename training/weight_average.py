"""Moving average of the weights: it is validated, and it is what the model file holds.

Source: B. T. Polyak, A. B. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim.
30, 1992; with exponential weights as in A. Tarvainen, H. Valpola, "Mean teachers", NeurIPS 2017 (arXiv 1703.01780).
"""

from typing import Any

import lightning as L
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from glam.network import DescriptorNetwork
from glam.training.module import LandmarkModule


class WeightAverage(L.Callback):
    """Averages the weights of the network over the steps, with exponential weights.

    Validation uses the average, and at the end the network has its weights. Lightning's own callback copies the
    complete module, with its images.

    Args:
        decay: weight of the average at each step; that of the new weights is 1 minus this.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._average: AveragedModel | None = None
        self._saved: dict[str, Any] | None = None
        self._step = 0

    def state_dict(self) -> dict[str, Any]:
        """The average."""
        return {} if self._average is None else {"average": self._average.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the average when the training starts. Only a run that is resumed does so."""
        self._saved = state_dict.get("average")

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts from the present weights, or from the average of the run that is resumed."""
        update = get_ema_multi_avg_fn(self.decay)  # type: ignore[no-untyped-call]
        self._average = AveragedModel(_network(pl_module), multi_avg_fn=update, use_buffers=True)
        self._average.requires_grad_(False)
        if self._saved is not None:
            self._average.load_state_dict(self._saved)
            self._saved = None
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *arguments: Any) -> None:
        """Adds the weights of a new step."""
        if trainer.global_step > self._step:
            assert self._average is not None
            self._average.update_parameters(_network(pl_module))
            self._step = trainer.global_step

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gives the network the average."""
        self._swap(_network(pl_module))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gives the network its own weights."""
        self._swap(_network(pl_module))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gives the network the average for good."""
        assert self._average is not None
        _network(pl_module).load_state_dict(self._average.module.state_dict())

    @torch.no_grad()
    def _swap(self, network: DescriptorNetwork) -> None:
        assert self._average is not None
        own = {name: values.clone() for name, values in network.state_dict().items()}
        network.load_state_dict(self._average.module.state_dict())
        self._average.module.load_state_dict(own)


def averaged_weights(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The averaged weights in a checkpoint by the names that the network gives them; empty if there is no average.

    Args:
        checkpoint: a checkpoint of Lightning.
    """
    average = checkpoint["callbacks"].get(WeightAverage.__qualname__, {}).get("average", {})
    return {name.removeprefix("module."): values for name, values in average.items() if name != "n_averaged"}


def _network(module: L.LightningModule) -> DescriptorNetwork:
    assert isinstance(module, LandmarkModule)
    return module.network
