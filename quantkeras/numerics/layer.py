"""What a hardware layer computes: one definition for integers, simulation and float meaning.

A hardware layer takes integers and gives integers. Per output channel ``c``, with
``value = integer * 2**-frac`` on every tensor::

    x'  = x << input_shift[c_in]                 where the input has a frac per channel
    acc = core(x', w)                            conv, depthwise, dense, or element-wise: see kinds
    acc = acc + (bias[c] << bias_shift[c])
    acc = max_pool(acc)                          optional
    acc = clip(acc, 0, max_value[c])             optional ReLU, max_value optional
    acc = sum_pool(acc)                          optional average pooling: 1/n is part of the scale
    y   = saturate((acc * scale[c] + 2**(shift[c] - 1)) >> shift[c])
    y   = table[y - qmin]                        optional: any other element-wise function

A shift of zero or less is an exact shift to the left by its magnitude. A layer without ``scale``
keeps its accumulator. :func:`run_layer` states this order once; an *array namespace* supplies the
operations: :class:`~quantkeras.numerics.arrays.IntArrays` (int64, the normative one), its fast
twin for the runtime, the ``keras.ops`` ones in ``quantkeras.layers``, and two that compute no
numbers: :class:`~quantkeras.numerics.layer_shapes.ShapeArrays` (what comes out) and
:class:`~quantkeras.numerics.bounds.IntervalArrays` (what each step can reach).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import index
from typing import Any, Protocol

from .hardware_kinds import KINDS, Trait
from .layer_windows import NO_PADS, Pads, Pool, Window

Slices = tuple[tuple[int, int | None, int], ...]


@dataclass(frozen=True)
class LayerSpec:
    """The static part of a hardware layer: everything but its numbers.

    Attributes:
        kind: one of :data:`~quantkeras.numerics.hardware_kinds.KINDS`.
        window: of a convolution.
        groups: of a conv2d.
        pool: at the end of the layer, None without one.
        relu: clip at zero.
        axis: of concat, counted without the batch dimension.
        shape: target of reshape.
        dims: order of permute, zero-based without the batch dimension.
        pads: of pad.
        slices: (start, stop, step) of each unbatched axis, stop None for the end of a backward
            slice.
        size: by what upsample repeats rows and columns.

    Raises:
        ValueError: for a kind that there is not.
    """

    kind: str
    window: Window | None = None
    groups: int = 1
    pool: Pool | None = None
    relu: bool = False
    axis: int = -1
    shape: tuple[int, ...] = ()
    dims: tuple[int, ...] = ()
    pads: Pads = NO_PADS
    slices: Slices = ()
    size: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"unknown hardware layer kind {self.kind!r}; known: {', '.join(KINDS)}"
            )

    @property
    def traits(self) -> Trait:
        """What its kind has in common with others."""
        return KINDS[self.kind]

    def to_config(self) -> dict[str, Any]:
        """Plain JSON-able form; fields at their default are left out."""
        plain = asdict(self)
        default = asdict(LayerSpec("identity"))
        return {k: v for k, v in plain.items() if k == "kind" or v != default[k]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LayerSpec:
        """Make a spec of its config, the inverse of :meth:`to_config`.

        Args:
            config: the fields; those that are missing are at their default.

        Returns:
            The spec.

        Raises:
            ValueError: for a kind that there is not.
            TypeError: for unknown fields and sizes that are no whole numbers.
        """
        fields = dict(config)
        if fields.get("window") is not None:
            fields["window"] = Window.from_config(fields["window"])
        if fields.get("pool") is not None:
            fields["pool"] = Pool.from_config(fields["pool"])
        for name in ("shape", "dims", "size"):
            if name in fields:
                fields[name] = tuple(index(v) for v in fields[name])
        if "slices" in fields:
            fields["slices"] = tuple(
                (index(a), None if b is None else index(b), index(c))
                for a, b, c in fields["slices"]
            )
        if "pads" in fields:
            fields["pads"] = tuple((index(a), index(b)) for a, b in fields["pads"])
        return cls(**fields)

    def pool_area(self, height_width: Sequence[int]) -> int:
        """Tell by what the sums of an average pooling are divided.

        Args:
            height_width: size of the map that enters the pool.

        Returns:
            The divisor, 1 if there is none.
        """
        if self.pool is None or self.pool.kind == "max":
            return 1
        return self.pool.area(height_width)


@dataclass
class LayerParams:
    """The numbers of a hardware layer; None where the layer has no such step.

    Attributes:
        weights: (kh, kw, cin/groups, cout), depthwise (kh, kw, c, m) or dense (in, out) integers.
        bias: scalar or (c_out,).
        bias_shift: by what the bias is shifted to the left, scalar or (c_out,).
        pad_value: (c_in,), in aligned input integers.
        input_shifts: one array (broadcastable to the unbatched input) or None per input.
        max_value: of the ReLU, scalar or (c_out,).
        scale: of the rescale, scalar or (c_out,).
        shift: of the rescale to the right, scalar or (c_out,).
        qmin: what the rescale saturates to from below.
        qmax: and from above.
        table: (qmax - qmin + 1,) output integers or, per channel, (qmax - qmin + 1, c_out).
    """

    weights: Any = None
    bias: Any = None
    bias_shift: Any = None
    pad_value: Any = None
    input_shifts: Sequence[Any] = field(default_factory=tuple)
    max_value: Any = None
    scale: Any = None
    shift: Any = None
    qmin: int = 0
    qmax: int = 0
    table: Any = None


class Arrays(Protocol):
    """Operations that :func:`run_layer` needs. Tensors have a leading batch dimension."""

    def align(self, x: Any, shift: Any) -> Any: ...
    def conv2d(self, x: Any, weights: Any, window: Window, groups: int, pad_value: Any) -> Any: ...
    def depthwise_conv2d(self, x: Any, weights: Any, window: Window, pad_value: Any) -> Any: ...
    def dense(self, x: Any, weights: Any) -> Any: ...
    def elementwise(self, kind: str, x: Any, y: Any) -> Any: ...
    def add_bias(self, acc: Any, bias: Any, shift: Any) -> Any: ...
    def concat(self, xs: Sequence[Any], axis: int) -> Any: ...
    def max_pool(self, x: Any, window: Window) -> Any: ...
    def sum_pool(self, x: Any, pool: Pool) -> Any: ...
    def relu(self, x: Any, max_value: Any) -> Any: ...
    def rescale(self, acc: Any, params: LayerParams) -> Any: ...
    def lookup(self, y: Any, table: Any, qmin: int) -> Any: ...
    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any: ...
    def permute(self, x: Any, dims: tuple[int, ...]) -> Any: ...
    def pad(self, x: Any, pads: Pads) -> Any: ...
    def slice(self, x: Any, slices: Slices) -> Any: ...
    def upsample(self, x: Any, size: tuple[int, int]) -> Any: ...


Note = Callable[[str, Sequence[Any]], None]


def run_layer(
    spec: LayerSpec,
    params: LayerParams,
    inputs: Sequence[Any],
    arrays: Arrays,
    note: Note | None = None,
) -> Any:
    """Compute one hardware layer on a batch; the module docstring gives the equation.

    Args:
        spec: what the layer does.
        params: its numbers, in the kind of ``arrays``.
        inputs: one tensor per input, batch first, channels last.
        arrays: how numbers are computed with.
        note: told on the way what there is, by the name of the stage: the aligned "inputs", the
            "accumulator" with its bias, and the "total" that the rescale starts from.

    Returns:
        The output.
    """
    shifts = params.input_shifts or (None,) * len(inputs)
    aligned = [
        x if shift is None else arrays.align(x, shift)
        for x, shift in zip(inputs, shifts, strict=True)
    ]
    if note is not None:
        note("inputs", aligned)
    acc = _core(spec, params, aligned, arrays)
    if params.bias is not None:
        acc = arrays.add_bias(acc, params.bias, params.bias_shift)
    if note is not None:
        note("accumulator", [acc])
    if spec.pool is not None and spec.pool.kind == "max":
        assert spec.pool.window is not None
        acc = arrays.max_pool(acc, spec.pool.window)
    if spec.relu:
        acc = arrays.relu(acc, params.max_value)
    if spec.pool is not None and spec.pool.kind != "max":
        acc = arrays.sum_pool(acc, spec.pool)
    if note is not None:
        note("total", [acc])
    if params.scale is not None:
        acc = arrays.rescale(acc, params)
    if params.table is not None:
        acc = arrays.lookup(acc, params.table, params.qmin)
    return acc


def _core(spec: LayerSpec, params: LayerParams, xs: Sequence[Any], arrays: Arrays) -> Any:
    if spec.kind == "conv2d":
        assert spec.window is not None
        return arrays.conv2d(xs[0], params.weights, spec.window, spec.groups, params.pad_value)
    if spec.kind == "depthwise_conv2d":
        assert spec.window is not None
        return arrays.depthwise_conv2d(xs[0], params.weights, spec.window, params.pad_value)
    if spec.kind == "dense":
        return arrays.dense(xs[0], params.weights)
    if Trait.ELEMENTWISE in spec.traits:
        acc = xs[0]
        for x in xs[1:]:
            acc = arrays.elementwise(spec.kind, acc, x)
        return acc
    if spec.kind == "concat":
        return arrays.concat(xs, spec.axis)
    if spec.kind == "flatten":
        return arrays.reshape(xs[0], (-1,))
    if spec.kind == "reshape":
        return arrays.reshape(xs[0], spec.shape)
    if spec.kind == "permute":
        return arrays.permute(xs[0], spec.dims)
    if spec.kind == "pad":
        return arrays.pad(xs[0], spec.pads)
    if spec.kind == "slice":
        return arrays.slice(xs[0], spec.slices)
    if spec.kind == "upsample":
        return arrays.upsample(xs[0], spec.size)
    return xs[0]
