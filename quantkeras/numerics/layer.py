"""What a hardware layer computes: one definition for integers, simulation and float meaning.

A hardware layer takes integers and gives integers. Per output channel ``c``, with
``value = integer * 2**-frac`` on every tensor::

    x'  = x << input_shift[c_in]                 where the input has a frac per channel
    acc = core(x', w)                            conv, depthwise, dense, add, concat, identity
    acc = acc + (bias[c] << bias_shift[c])
    acc = max_pool(acc)                          optional
    acc = clip(acc, 0, max_value[c])             optional ReLU, max_value optional
    acc = sum_pool(acc)                          optional average pooling: 1/n is part of the scale
    y   = saturate((acc * scale[c] + 2**(shift[c] - 1)) >> shift[c])
    y   = table[y - qmin]                        optional lookup table

A shift of zero or less is an exact shift to the left by its magnitude. A layer without ``scale``
keeps its accumulator. :func:`run_layer` states this order once; an *array namespace* supplies the
operations: :class:`~quantkeras.numerics.arrays.IntArrays` (int64, the normative one), its fast
twin for the runtime, and the ``keras.ops`` ones in ``quantkeras.layers``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

Pads = tuple[tuple[int, int], tuple[int, int]]

WEIGHTED = ("conv2d", "depthwise_conv2d", "dense")
WEIGHTLESS = ("add", "concat", "identity")
MOVEMENTS = ("flatten", "reshape", "permute", "pad")
KINDS = WEIGHTED + WEIGHTLESS + MOVEMENTS


@dataclass(frozen=True)
class Window:
    """A sliding window over height and width: of a kernel or of a pool.

    padding: ``"same"`` and ``"valid"`` as TensorFlow defines them, or explicit
    ``((top, bottom), (left, right))``.
    """

    size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: str | Pads = "valid"
    dilation: tuple[int, int] = (1, 1)

    @property
    def area(self) -> int:
        """Number of elements under the window."""
        return self.size[0] * self.size[1]

    def extent(self, axis: int) -> int:
        """Input rows (axis 0) or columns (axis 1) that the dilated window spans."""
        return (self.size[axis] - 1) * self.dilation[axis] + 1

    def pads(self, height_width: Sequence[int]) -> Pads:
        """Explicit padding ``((top, bottom), (left, right))`` for an input of that size."""
        if self.padding == "valid":
            return (0, 0), (0, 0)
        if self.padding == "same":
            return self._same(0, height_width[0]), self._same(1, height_width[1])
        assert not isinstance(self.padding, str)
        return self.padding

    def _same(self, axis: int, length: int) -> tuple[int, int]:
        stride = self.strides[axis]
        output = -(-length // stride)
        total = max((output - 1) * stride + self.extent(axis) - length, 0)
        return total // 2, total - total // 2

    def output_size(self, height_width: Sequence[int]) -> tuple[int, int]:
        """Height and width of the output for an input of that size."""
        pads = self.pads(height_width)
        sizes = [
            (height_width[a] + sum(pads[a]) - self.extent(a)) // self.strides[a] + 1 for a in (0, 1)
        ]
        return sizes[0], sizes[1]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Window:
        """Build from the plain lists and numbers of a JSON file."""
        padding = config.get("padding", "valid")
        if not isinstance(padding, str):
            (top, bottom), (left, right) = padding
            padding = ((int(top), int(bottom)), (int(left), int(right)))
        pair = {
            name: (int(config[name][0]), int(config[name][1]))
            for name in ("size", "strides", "dilation")
            if name in config
        }
        return cls(padding=padding, **pair)


@dataclass(frozen=True)
class Pool:
    """Pooling inside a hardware layer: ``"max"``, ``"average"`` or ``"global_average"``.

    ``window`` is None for the global kind. Average pooling sums; it divides in the rescale.
    """

    kind: str
    window: Window | None = None
    keepdims: bool = False

    def area(self, height_width: Sequence[int]) -> int:
        """How many elements an average is taken of, for a map of that size."""
        if self.window is None:
            return height_width[0] * height_width[1]
        return self.window.area

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Pool:
        """Build from the plain lists and numbers of a JSON file."""
        window = config.get("window")
        return cls(
            config["kind"],
            None if window is None else Window.from_config(window),
            bool(config.get("keepdims", False)),
        )


@dataclass(frozen=True)
class LayerSpec:
    """The static part of a hardware layer: everything but its numbers.

    kind: one of :data:`KINDS`; window: of a convolution; groups: of a conv2d; relu: clip at zero;
    axis: of concat, counted without the batch dimension; shape: target of reshape; dims: order of
    permute, zero-based without the batch dimension; pads: of pad.
    """

    kind: str
    window: Window | None = None
    groups: int = 1
    pool: Pool | None = None
    relu: bool = False
    axis: int = -1
    shape: tuple[int, ...] = ()
    dims: tuple[int, ...] = ()
    pads: Pads = ((0, 0), (0, 0))

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"unknown hardware layer kind {self.kind!r}; known: {', '.join(KINDS)}"
            )

    def to_config(self) -> dict[str, Any]:
        """Plain JSON-able form; fields at their default are left out."""
        plain = asdict(self)
        default = asdict(LayerSpec("identity"))
        return {k: v for k, v in plain.items() if k == "kind" or v != default[k]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LayerSpec:
        """Inverse of :meth:`to_config`."""
        fields = dict(config)
        if fields.get("window") is not None:
            fields["window"] = Window.from_config(fields["window"])
        if fields.get("pool") is not None:
            fields["pool"] = Pool.from_config(fields["pool"])
        for name in ("shape", "dims"):
            if name in fields:
                fields[name] = tuple(int(v) for v in fields[name])
        if "pads" in fields:
            fields["pads"] = tuple((int(a), int(b)) for a, b in fields["pads"])
        return cls(**fields)

    def pool_area(self, height_width: Sequence[int]) -> int:
        """How many accumulators an average pooling adds up (1 if there is none).

        height_width: size of the map that enters the pool.
        """
        if self.pool is None or self.pool.kind == "max":
            return 1
        if self.pool.kind == "global_average":
            return height_width[0] * height_width[1]
        assert self.pool.window is not None
        return self.pool.window.area


@dataclass
class LayerParams:
    """The numbers of a hardware layer; None where the layer has no such step.

    weights: (kh, kw, cin/groups, cout), depthwise (kh, kw, c, m) or dense (in, out) integers;
    bias, bias_shift, max_value, scale, shift: scalar or (c_out,); pad_value: (c_in,), in aligned
    input integers; input_shifts: one array (broadcastable to the unbatched input) or None per
    input; qmin, qmax: saturation limits of the output; table: (qmax - qmin + 1,).
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
    def add(self, x: Any, y: Any) -> Any: ...
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


def run_layer(spec: LayerSpec, params: LayerParams, inputs: Sequence[Any], arrays: Arrays) -> Any:
    """Compute one hardware layer on a batch; the module docstring gives the equation.

    inputs: one tensor per input, batch first, channels last.
    """
    shifts = params.input_shifts or (None,) * len(inputs)
    aligned = [
        x if shift is None else arrays.align(x, shift)
        for x, shift in zip(inputs, shifts, strict=True)
    ]
    acc = _core(spec, params, aligned, arrays)
    if params.bias is not None:
        acc = arrays.add_bias(acc, params.bias, params.bias_shift)
    if spec.pool is not None and spec.pool.kind == "max":
        assert spec.pool.window is not None
        acc = arrays.max_pool(acc, spec.pool.window)
    if spec.relu:
        acc = arrays.relu(acc, params.max_value)
    if spec.pool is not None and spec.pool.kind != "max":
        acc = arrays.sum_pool(acc, spec.pool)
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
    if spec.kind == "add":
        acc = xs[0]
        for x in xs[1:]:
            acc = arrays.add(acc, x)
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
    return xs[0]


def fixed_shape(shape: Sequence[int | None], name: str = "a tensor") -> tuple[int, ...]:
    """The shape, if all sizes are known; else ValueError naming whose shape it is."""
    if None in shape:
        raise ValueError(f"{name} has the shape {tuple(shape)}; its sizes must all be known")
    return tuple(size for size in shape if size is not None)


def output_shape(
    spec: LayerSpec, shapes: Sequence[tuple[int | None, ...]], channels: int | None
) -> tuple[int | None, ...]:
    """Unbatched output shape for the unbatched input shapes.

    channels: output channels of a weighted kind, None for the others.
    """
    shape = tuple(shapes[0])
    if spec.kind in ("conv2d", "depthwise_conv2d"):
        assert spec.window is not None
        shape = (*_slid(spec.window, shape), channels)
    elif spec.kind == "dense":
        shape = (*shape[:-1], channels)
    elif spec.kind == "add":
        shape = tuple(_broadcast(sizes) for sizes in zip(*shapes, strict=True))
    elif spec.kind == "concat":
        axis = spec.axis % len(shape)
        total = sum(s[axis] or 0 for s in shapes)
        shape = (*shape[:axis], total, *shape[axis + 1 :])
    elif spec.kind == "flatten":
        shape = (math.prod(d or 0 for d in shape),)
    elif spec.kind == "reshape":
        shape = spec.shape
    elif spec.kind == "permute":
        shape = tuple(shape[d] for d in spec.dims)
    elif spec.kind == "pad":
        grown = [
            None if d is None else d + sum(p) for d, p in zip(shape[:2], spec.pads, strict=True)
        ]
        shape = (*grown, *shape[2:])
    if spec.pool is None:
        return shape
    if spec.pool.window is not None:
        return (*_slid(spec.pool.window, shape), shape[-1])
    return (1, 1, shape[-1]) if spec.pool.keepdims else (shape[-1],)


def _slid(window: Window, shape: Sequence[int | None]) -> tuple[int | None, int | None]:
    if shape[0] is None or shape[1] is None:
        raise ValueError(f"height and width must be known, not {tuple(shape)}")
    return window.output_size((shape[0], shape[1]))


def _broadcast(sizes: Sequence[int | None]) -> int | None:
    return None if None in sizes else max(s or 0 for s in sizes)
