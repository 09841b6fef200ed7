"""The weights of a call's layer: their variances, their biases' mean, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array
from keras2gp._util.keras_objects import KerasLayer
from keras2gp._util.text import numbers_text, quoted_text
from keras2gp.conversion.data_inputs import InputContext
from keras2gp.conversion.derived_weights import as_drawn
from keras2gp.conversion.priors import bias_mean, distribution_of, read_variances
from keras2gp.errors import PriorError
from keras2gp.graph.variances import LayerVariances

__all__ = ["WeightContext"]


class WeightContext(InputContext):
    """Enters the weights of a call's layer into the parameters."""

    def bias_mean(self, layer: KerasLayer, name: str) -> float | Array:
        """The mean of a layer's initial biases; 0 where the user states its variances.

        An array where it differs between channels, which broadcasts against Keras's shape.

        name: of its weights in the parameters
        """
        if self.state.settings.prior != "initializers" or self.state.settings.states_both(name):
            return 0.0
        mean = bias_mean(layer)
        if np.any(mean):
            self.biases_have_mean = True
            self.add_note(f"biases of mean {numbers_text(mean)}")
        return mean

    def weights(
        self,
        layer: KerasLayer,
        fan_in: int,
        *,
        kernel: str = "kernel",
        bias: str | None = "bias",
        suffix: str = "",
        bias_may_have_mean: bool = False,
    ) -> tuple[str, int]:
        """Enter a layer's weights into the parameters: their name, and which call of them this is.

        fan_in: how many weights one output sums over
        kernel, bias: which weights of the layer, as for `read_variances`
        suffix: appended to the path of a layer with two kinds of weights
        bias_may_have_mean: the reader adds it, by `bias_mean`; else biases with a mean are refused
        """
        self.require_own_weights(layer, layer.variables)
        # By identity: nested models may call one layer object under several paths.
        name = self.state.names.setdefault((id(layer), suffix), self.path + suffix)
        try:
            variances = read_variances(
                layer,
                prior=self.state.settings.prior,
                fan_in=fan_in,
                kernel=kernel,
                bias=bias,
                bias_may_have_mean=bias_may_have_mean,
            )
        except PriorError as error:
            if not self.state.settings.states_both(name):
                hint = "another initialiser, prior='weights', or an override of both variances"
                if self.state.settings.prior == "weights":
                    hint = "other weights, prior='initializers', or an override of both variances"
                self.refuse(str(error), hint, by_shape=False)
            variances = LayerVariances(0.0)  # the override replaces it
        if suffix:
            self.extra_rows[suffix] = variances
        else:
            self.variances = variances
        self.state.parameters[name] = variances
        return name, self.calls_before(layer, suffix)

    def calls_before(self, layer: KerasLayer, suffix: str) -> int:
        """Count a call of a layer's weights that are no parameters: how many there were before.

        suffix: names the weights
        """
        name = self.state.names.setdefault((id(layer), suffix), self.path + suffix)
        count = self.state.calls.get(name, 0)
        self.state.calls[name] = count + 1
        return count

    def require_own_weights(self, layer: KerasLayer, weights: Sequence[Any]) -> None:
        """Refuse a layer that shares a random weight with another: they are not independent."""
        for weight in weights:
            drawn = as_drawn(weight)
            _, owner, path = self.state.owners.setdefault(id(drawn), (drawn, layer, self.path))
            if owner is not layer:
                self.refuse(
                    f"its weight {quoted_text(weight.name)} is also that of {path}, so that what "
                    "the two make is not independent",
                    "one layer for both calls, or weights of its own",
                    by_shape=False,
                )

    def note_distributions(
        self, layer: KerasLayer, inputs: int | None, kernel: str, name: str
    ) -> None:
        """Note weights that are not Gaussian at any width but taken as Gaussian.

        inputs: how many numbers of the data one output sums over; None for a sum over channels
        """
        variances = self.state.parameters[name]
        if self.state.settings.prior != "initializers" or self.state.settings.states_both(name):
            return
        distributions = {}
        if inputs is not None and variances.weight > 0:
            what = "entries" if kernel == "embeddings" else f"weights on {inputs} inputs"
            distributions[what] = distribution_of(layer, kernel)
        if variances.bias > 0:
            distributions["biases"] = distribution_of(layer, "bias")
        other = [f"{kind} {what}" for what, kind in distributions.items() if kind != "normal"]
        if other:
            text = f"{' and '.join(other)}, taken as Gaussian"
            if text not in self.note:  # both directions of a recurrence have the same to say
                self.add_note(text)

    def add_note(self, text: str) -> None:
        """Add a note on the present call."""
        self.note = f"{self.note}; {text}" if self.note else text
