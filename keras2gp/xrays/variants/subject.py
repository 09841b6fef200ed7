"""The variants of a model and their kernels: built, converted, and compared with each other."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras

from keras2gp._util.arrays import Array
from keras2gp._util.keras_objects import KerasModel
from keras2gp._util.text import received_text
from keras2gp.conversion.opening import Opened, opened
from keras2gp.conversion.overrides import apply_overrides
from keras2gp.conversion.pipeline import convert
from keras2gp.conversion.registry import functional_of
from keras2gp.errors import InputError, Keras2GPError, UnsupportedModelError, one_line
from keras2gp.kernel.kernel import Kernel
from keras2gp.kernel.variances import matching
from keras2gp.matrices.fingerprint import digest, fingerprint_of
from keras2gp.matrices.work import Work
from keras2gp.xrays.rows import Inputs
from keras2gp.xrays.variants.ablations import ablations, check_kinds
from keras2gp.xrays.variants.wiring import Wiring, rebuilt
from keras2gp.xrays.variants.work import work_of

__all__ = ["OWN", "GraphRow", "Subject", "Variant", "VariantConversion"]

_LONGEST = 300
OWN = "own"
"""The kind of the user's own variants."""


@dataclass(frozen=True)
class VariantConversion:
    """How every variant is converted.

    Attributes:
        overrides: of variances, by pattern; those of layers that a variant lacks do not count.
        dtype: of the kernels' entries.
        others: further arguments of `convert`.
        position: of the output that the targets are of; None for an output without positions.
    """

    overrides: Mapping[str, Any] | None
    dtype: str
    others: Mapping[str, Any]
    position: Any = None

    def base(self, model: KerasModel) -> Kernel:
        """The kernel of the model as it is, of all positions; errors are those of `convert`."""
        return convert(model, overrides=self.overrides, dtype=self.dtype, **self.others)

    def variant(self, model: KerasModel) -> Kernel:
        """The kernel of a variant, whose inputs have their sizes already."""
        others = {name: v for name, v in self.others.items() if name != "input_shape"}
        kernel = replace(self, overrides=None, others=others).base(model)
        known = {
            pattern: value
            for pattern, value in (self.overrides or {}).items()
            if matching(pattern, kernel.parameters)
        }
        return kernel.with_parameters(apply_overrides(kernel.parameters, known))

    def of_images(self, kernel: Kernel, positions: tuple[int, ...]) -> Kernel:
        """A kernel with one row for each image, where the model has so many positions."""
        if kernel.positions != positions:
            raise InputError(
                f"its output has positions {kernel.positions}, and that of the model {positions}"
            )
        if self.position is not None and not positions:
            raise InputError(
                f"position={received_text(self.position)}: the model's output is a vector, which "
                "has no positions. Try: without it"
            )
        if self.position is not None:
            return kernel.at(self.position)
        if positions:
            raise InputError(
                f"the output has positions {positions}, and each would be a row: the other "
                "positions of an image would tell the one that is left out, which says nothing of "
                "new images. Try: position=, the output at one of them; or Flatten or pooling, and "
                "a Dense layer at the end"
            )
        return kernel


@dataclass(frozen=True, eq=False)
class Variant:
    """A changed model.

    Attributes:
        kind: of the ablation, or OWN.
        name: short, and unlike that of any other.
        text: what is changed.
        model: a Keras model; None if Keras cannot build it.
        kernel: None where there is none, or the one of another variant.
        key: names the kernel's matrix; "" without a kernel.
        data: names the images as the kernel receives them; "" without a kernel.
        work: of a kernel entry, relative to the model as it is.
        changes: number of calls that are changed; 0 of a model of the user's.
        same_as: name of an earlier variant with the same kernel; "" for none.
        reason: why it is not computed; "" if it is.
    """

    kind: str
    name: str
    text: str
    model: KerasModel = None
    kernel: Kernel | None = None
    key: str = ""
    data: str = ""
    work: float = 0.0
    changes: int = 0
    same_as: str = ""
    reason: str = ""


@dataclass(frozen=True)
class GraphRow:
    """A call of the model, for a picture of its graph.

    Attributes:
        path: of the layer.
        layer: its class.
        sources: numbers of the calls that it reads; -1 for an input.
    """

    path: str
    layer: str
    sources: tuple[int, ...]


class Subject:
    """A model as it is, and its variants.

    Args:
        model: a Keras model, or the path of its file.
        settings: of all conversions.
        x: the rows, as for the kernel.
        test: test rows; None for none.

    Attributes:
        base: the variant that is the model as it is.

    Raises:
        UnsupportedModelError: the model has no kernel.
        InputError: its output has positions, or the rows do not fit.
    """

    def __init__(
        self, model: KerasModel, settings: VariantConversion, x: Inputs, test: Inputs | None = None
    ) -> None:
        self._settings, self._x, self._test = settings, x, test
        with opened(model, **self._opening()) as ready:
            whole = settings.base(ready)
            self._ready: Opened = ready
        # Code is traced to calls on tensors of one size; a graph is calls already.
        self._declared = functional_of(model) is not None
        self._positions = whole.positions
        self.kernel = kernel = settings.of_images(whole, whole.positions)
        self.work = work_of(kernel)
        name = "the model"
        self.base = Variant("", name, "as it is", None, kernel, *self._keys(kernel), 1.0)

    def _opening(self) -> dict[str, Any]:
        others = self._settings.others
        return {k: others[k] for k in ("activations", "layers", "input_shape") if k in others}

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self._ready.name)

    @property
    def graph(self) -> tuple[GraphRow, ...]:
        """The calls of the model; a nested model is one call, and code of its own has none."""
        if not self._has_graph:
            return ()
        return tuple(
            GraphRow(call.path, type(call.operation).__name__, call.sources)
            for call in Wiring(self._ready.functional).calls
        )

    @property
    def _has_graph(self) -> bool:
        ready = self._ready
        return isinstance(ready.functional, keras.Model) or not ready.tracer.live or self._declared

    def variants(
        self,
        kinds: Collection[str] | None = None,
        own: Mapping[str, Any] | None = None,
        most_work: float = math.inf,
    ) -> Iterator[Variant]:
        """Every ablation, and the user's own variants, with their kernels or the reason for none.

        Args:
            kinds: of ablations.
            own: the user's own variants by name: Keras models, or paths of their files.
            most_work: variants of more work than so many times the model's are left out.

        Raises:
            InputError: a name of the user's is that of another variant.
        """
        first, names = {self.base.key: self.base.name}, {self.base.name}
        for variant in self._built(kinds, own or {}):
            if variant.name in names:
                raise InputError(f"variants: {variant.name!r} is taken. Try: another name")
            names.add(variant.name)
            if variant.kernel is None:
                yield variant
                continue
            facts = vars(variant)
            key, work = variant.key, variant.work
            if key in first:
                yield Variant(**{**facts, "kernel": None, "same_as": first[key]})
            elif work > most_work:
                reason = (
                    f"its kernel takes {work:.3g} times the time of the model's. Try: "
                    f"most_work={math.ceil(work)} (--most-work {math.ceil(work)})"
                )
                yield Variant(**{**facts, "kernel": None, "reason": reason})
            else:
                first[key] = variant.name
                yield variant

    def _built(self, kinds: Collection[str] | None, own: Mapping[str, Any]) -> Iterator[Variant]:
        chosen = check_kinds(kinds)
        if chosen and not self._has_graph:
            why = "the model runs code of its own, which cannot be rewritten. Try: variants="
            yield Variant("", "ablations", "every ablation", reason=why)
            chosen = ()
        for ablation in ablations(self._ready.functional, self.kernel.parameters, chosen):
            named = ablation.kind, ablation.name, ablation.text
            try:
                model = rebuilt(self._ready.functional, ablation.changes, self.name)
            except InputError as error:
                yield Variant(*named, reason=f"Keras cannot build it: {error}")
            else:
                found = self._converted(model, *named)
                yield replace(found, changes=len(ablation.changes))
        for name, model in own.items():
            yield self._converted(model, OWN, name, "a variant of your own")

    def _converted(self, model: KerasModel, kind: str, name: str, text: str) -> Variant:
        live = model if isinstance(model, keras.Model) else None
        try:
            kernel = self._settings.of_images(self._settings.variant(model), self._positions)
            keys = self._keys(kernel)
        except UnsupportedModelError as error:
            first = error.obstacles[0]
            reason = f"it has no exact kernel: {one_line(f'{first.where}: {first.why}')}"
            return Variant(kind, name, text, live, reason=reason)
        except Keras2GPError as error:
            return Variant(kind, name, text, live, reason=one_line(str(error))[:_LONGEST])
        work = work_of(kernel) / self.work
        return Variant(kind, name, text, live, kernel, *keys, work)

    def _keys(self, kernel: Kernel) -> tuple[str, str]:
        """Names of the matrix of the rows, and of the images that the kernel receives.

        Kernels of the same matrix have the same entries.
        """
        images: list[Array] = kernel.images(self._x)
        tested = images if self._test is None else kernel.images(self._test)
        facts = fingerprint_of(Work.of(kernel.program, kernel.parameters, images, tested))
        data = digest({side: facts[side] for side in ("x1", "x2")})[:16]
        matrix = fingerprint_of(Work.of(kernel.program, kernel.parameters, images, None))
        return digest(matrix)[:16], data
