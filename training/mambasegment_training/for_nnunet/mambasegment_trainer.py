"""Our networks and losses with the data, augmentation, loop and files of stock nnU-Net:

    nnUNetv2_train DATASET CONFIGURATION FOLD -tr MambaSegmentTrainer -p MambaSegmentPlans

The plans are made by `mambatrain nnunet-plans` and hold the recipe. nnU-Net imports this file by itself, as a module of
no package, so that imports are absolute.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mambasegment_training.compat_nnunet import trainer_class
from mambasegment_training.deep_supervision import give_all_outputs, give_finest_output
from mambasegment_training.nnunet_plans import recipe_of
from mambasegment_training.optimizer import build_optimizer
from mambasegment_training.run_parts import loss_of, wants_all_outputs
from mambasegment_training.schedule import learning_rate

_Trainer: Any = trainer_class()


class MambaSegmentTrainer(_Trainer):
    """Network by the plan's own entry; loss, optimiser, rate and length by the recipe in it."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008  (nnU-Net's own signature)
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.recipe = recipe_of(self.configuration_manager.configuration)
        self.num_epochs = self.recipe.epochs
        self.num_iterations_per_epoch = self.recipe.steps_per_epoch
        self.initial_lr = self.recipe.optimizer.learning_rate
        self.weight_decay = self.recipe.optimizer.weight_decay
        self.oversample_foreground_percent = self.recipe.data.foreground_fraction
        self.enable_deep_supervision = wants_all_outputs(self.recipe)
        self._step = 0

    def _build_loss(self) -> nn.Module:
        if self.label_manager.has_regions:  # for which nnU-Net has its own targets
            return super()._build_loss()
        plan, ignored = self.configuration_manager, self.label_manager.ignore_label
        return _OnIntegers(loss_of(self.recipe, self._plain_network(), plan.patch_size, plan.spacing, ignored))

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        return build_optimizer(self.recipe.optimizer, self.network), _RateOfTheStep()

    def on_train_epoch_start(self) -> None:
        self._step = self.current_epoch * self.num_iterations_per_epoch  # also after a training was taken up again
        self._set_rate()
        super().on_train_epoch_start()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        self._set_rate()
        self._step += 1
        return super().train_step(batch)

    def _set_rate(self) -> None:
        done = self._step / (self.num_epochs * self.num_iterations_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe.schedule, self.initial_lr, self._step, done)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        switch = give_all_outputs if enabled and self.enable_deep_supervision else give_finest_output
        switch(self._plain_network())

    def _plain_network(self) -> Any:
        """Without what wraps it for several processes or compiled."""
        network = self.network.module if self.is_ddp else self.network
        return getattr(network, "_orig_mod", network)


class _OnIntegers(nn.Module):
    """nnU-Net's targets come in whatever type its augmentation left."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Any, targets: Tensor | list[Tensor]) -> Tensor:
        return self.loss(logits, targets.long() if isinstance(targets, Tensor) else [one.long() for one in targets])


class _RateOfTheStep:
    """In the place of nnU-Net's scheduler, which knows epochs alone."""

    def step(self, epoch: int) -> None:
        """The trainer sets the rate at each step."""
