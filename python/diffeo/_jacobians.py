"""What is measured of one layer: derivatives along tangents, or values at perturbed inputs (bursts)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from diffeo import errors
from diffeo._passes import Layer, bad_rows, host, raise_non_finite, say, some_of
from diffeo._validation import FloatArray

if TYPE_CHECKING:
    import torch

# From a batch of inputs (b, ...) to what is measured (b, m); it keeps dual tensors dual and graphs alive.
Evaluate = Callable[["torch.Tensor"], "torch.Tensor"]

# Rows of the batch on which a layer is tried out before the work: few, and enough to halve.
TRIAL_ROWS = 8
# More identity directions than this mean so many forward passes that tangents or bursts must be meant.
_MAX_IDENTITY = 64
# Largest entry of T^T T - I; single-precision QR factors pass.
_ORTHONORMALITY = 1e-6
# Bursts this small a part of the spread of the inputs see little curvature, and are far above rounding.
_AUTO_SCALE = 0.02

# ATen operators (without a trailing "_") whose derivative jumps; any name with "max_pool" in it counts too.
# `where` is left out: attention masks use it on conditions that do not depend on the input.
_KINKED = frozenset(
    "relu relu6 leaky_relu prelu _prelu_kernel rrelu rrelu_with_noise threshold hardtanh hardswish "  # noqa: SIM905
    "hardsigmoid hardshrink softshrink abs sign sgn round floor ceil trunc clamp clamp_min clamp_max clip "
    "maximum minimum fmax fmin max min amax amin aminmax topk sort median nanmedian kthvalue mode".split()
)

# Words by which torch says that an operator, or a custom autograd.Function, has no forward-mode rule.
_NO_FORWARD_RULE = ("forward ad", "forward mode", "forward-mode", "forward gradient")


@dataclass(frozen=True)
class Samples:
    """Inputs (n, ...) and tangents (n, ..., d) or None, read block by block in float64."""

    inputs: Any
    tangents: Any

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def n_directions(self) -> int:
        """Number d of tangents, or of all coordinates of an input."""
        return int(np.prod(self.inputs.shape[1:]) if self.tangents is None else self.tangents.shape[-1])

    def blocks(self, size: int) -> Iterator[tuple[slice, FloatArray, FloatArray | None]]:
        """Slices of at most `size` rows, with the inputs and tangents there."""

        def read(values: Any) -> FloatArray:
            return np.ascontiguousarray(host(values), dtype=np.float64)

        for start in range(0, len(self), size):
            block = slice(start, start + size)
            tangents = None if self.tangents is None else read(self.tangents[block])
            yield block, read(self.inputs[block]), tangents


def check_samples(samples: Samples, covariances: str, batch_size: int) -> None:
    """Check the inputs and tangents of `measure`: kinds and shapes, then block by block the values."""
    inputs, tangents = samples.inputs, samples.tangents
    _check_floating("inputs", inputs)
    if tangents is not None:
        _check_floating("tangents", tangents)
        if tuple(tangents.shape[:-1]) != tuple(inputs.shape):
            raise errors.ShapeError(
                f"tangents have shape {tuple(tangents.shape)}; for these inputs they must be {(*inputs.shape, 'd')}"
            )
    elif covariances == "jacobians" and samples.n_directions > _MAX_IDENTITY:
        raise errors.ParameterError(
            f"inputs have {samples.n_directions} coordinates; derivatives along all of them are for up to "
            f"{_MAX_IDENTITY}. Give tangents of shape (n, *input_shape, d), or use covariances='bursts'"
        )
    bad: dict[str, list[int]] = {"inputs": [], "tangents": []}
    skewed: list[int] = []
    for block, x, t in samples.blocks(batch_size):
        bad["inputs"].extend(block.start + bad_rows(x))
        if t is not None:
            bad["tangents"].extend(block.start + bad_rows(t))
            t = t.reshape(len(t), -1, t.shape[-1])
            error = np.abs(np.einsum("ipd,ipe->ide", t, t) - np.eye(t.shape[-1]))
            skewed.extend(block.start + np.flatnonzero(error.max(axis=(1, 2)) > _ORTHONORMALITY))
    raise_non_finite(bad, len(samples))
    if skewed:
        raise errors.ParameterError(
            f"tangents are not orthonormal to {_ORTHONORMALITY:g} in {some_of(skewed, len(samples))}; take "
            "the Q of a QR factorisation"
        )


def _check_floating(name: str, values: Any) -> None:
    """Make sure that `values` is an array or tensor (n, ...) of floating numbers of at most 64 bits."""
    import torch

    if not isinstance(values, (np.ndarray, torch.Tensor)):
        raise errors.DataTypeError(
            f"{name} are an ndarray or a tensor; got {type(values).__name__}. (Concatenate batches: an "
            "iterable may give another order when it is read again)"
        )
    floating = values.dtype.kind == "f" if isinstance(values, np.ndarray) else values.is_floating_point()
    if not floating or values.dtype.itemsize > 8:
        raise errors.DataTypeError(
            f"{name} have dtype {values.dtype}: only floating values (of at most 64 bits) can be varied"
        )
    if not values.ndim or 0 in values.shape:
        raise errors.ShapeError(f"{name} have shape {tuple(values.shape)}; they must be (n, ...), not empty")


def measure_jacobians(layer: Layer, samples: Samples, batch_size: int, bar: Any) -> tuple[FloatArray, FloatArray]:
    """Points (n, m) and Jacobians (n, m, d) along the tangents, or along all p coordinates of the input."""
    differentiate = Differentiator(layer)
    for block, inputs, directions in samples.blocks(batch_size):
        x = layer.send(inputs)
        if directions is None:
            p = samples.n_directions
            tangents = layer.send(np.eye(p)).reshape(1, *x.shape[1:], p).expand(*x.shape, p)
        else:
            tangents = layer.send(directions)
        if block.start == 0:
            _check_smooth(layer, x[:TRIAL_ROWS], tangents[:TRIAL_ROWS], differentiate)
        y, derivatives = differentiate(x, tangents)
        if block.start == 0:
            points = np.empty((len(samples), y.shape[1]))
            jacobians = np.empty((*points.shape, samples.n_directions))
        points[block], jacobians[block] = host(y), host(derivatives)
        bar.update(len(x))
    return points, jacobians


def measure_bursts(
    layer: Layer,
    samples: Samples,
    n_bursts: int,
    scale: float,
    generator: np.random.Generator,
    batch_size: int,
    bar: Any,
) -> tuple[FloatArray, FloatArray]:
    """Points (n, m) and bursts (n, K, m); the normal deviates are drawn row by row, whatever the batches."""
    import torch

    precision = float(torch.finfo(layer.dtype).eps)
    for block, x, tangents in samples.blocks(max(1, batch_size // n_bursts)):
        if scale < 16 * precision * np.abs(x).max():
            raise errors.ParameterError(
                f"scale={scale:g} is lost in the rounding of {layer.dtype}; cast the model or raise it"
            )
        if tangents is None:
            change = scale * generator.standard_normal((len(x), n_bursts, *x.shape[1:]))
        else:
            weights = scale * generator.standard_normal((len(x), n_bursts, tangents.shape[-1]))
            change = np.einsum("i...d,ikd->ik...", tangents, weights)
        moved = (x[:, None] + change).reshape(-1, *x.shape[1:])
        parts = [host(layer(layer.send(moved[k : k + batch_size]))) for k in range(0, len(moved), batch_size)]
        y = host(layer(layer.send(x)))
        if block.start == 0:
            points = np.empty((len(samples), y.shape[1]))
            bursts = np.empty((len(samples), n_bursts, y.shape[1]))
        points[block], bursts[block] = y, np.concatenate(parts).reshape(len(x), n_bursts, -1)
        bar.update(len(x))
    return points, bursts


def auto_scale(samples: Samples, batch_size: int) -> float:
    """0.02 sqrt(V / p): V the sum of the variances of the input's coordinates, p the number of directions.

    Without tangents p is the input size and this is 0.02 of the rms spread. With d tangents p = d: the same
    total variance is then spread over d directions, as it is on a d-dimensional set.
    """
    mean = sum(x.sum(axis=0) for _, x, _ in samples.blocks(batch_size)) / len(samples)
    variance = sum(np.square(x - mean).sum() for _, x, _ in samples.blocks(batch_size)) / len(samples)
    scale = _AUTO_SCALE * float(np.sqrt(variance / samples.n_directions))
    if not scale > 0:
        raise errors.ParameterError("the inputs are all equal, so no scale can be chosen for bursts; give scale")
    return scale


class Differentiator:
    """Evaluate a batch together with its derivatives along given tangents.

    Forward mode (dual numbers, one pass per tangent) is tried first; then forward mode with torch's fused
    kernels switched off, which gives recurrent layers and attention forward rules; then reverse mode (one
    backward pass per measured neuron), with a `ForwardModeWarning`. What failed once is not tried again.

    Parameters
    ----------
    evaluate : callable
        Maps a tensor (b, ...) to a tensor (b, m), row by row (no row may depend on another row).
    """

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._modes = [_forward, _plain_kernels()(_forward), _plain_kernels()(_reverse)]

    def __call__(self, x: torch.Tensor, tangents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return y = f(x), (b, m), and (dy/dx) T, (b, m, d), for x (b, ...) and tangents T (b, ..., d)."""
        while True:
            try:
                return self._modes[0](self._evaluate, x, tangents)
            except (NotImplementedError, RuntimeError) as error:
                text = str(error)
                if len(self._modes) == 1 or not any(words in text.lower() for words in _NO_FORWARD_RULE):
                    raise
            del self._modes[0]
            if len(self._modes) == 1:
                errors.warn(
                    "forward-mode differentiation is not possible, so reverse mode is used, one backward "
                    f"pass per measured neuron; torch says: {text.splitlines()[0]}",
                    errors.ForwardModeWarning,
                )


def _forward(evaluate: Evaluate, x: torch.Tensor, tangents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Dual numbers, one pass per tangent; a result without a tangent does not depend on the input: zeros."""
    import torch
    from torch.autograd import forward_ad

    columns = []
    with torch.no_grad(), forward_ad.dual_level():
        for k in range(tangents.shape[-1]):
            dual = forward_ad.make_dual(x, tangents[..., k].contiguous())
            y, derivative = forward_ad.unpack_dual(evaluate(dual))
            columns.append(torch.zeros_like(y) if derivative is None else derivative)
    return y, torch.stack(columns, dim=-1)


def _reverse(evaluate: Evaluate, x: torch.Tensor, tangents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One backward pass per column of y; rows are independent, so a column's sum has row-wise gradients."""
    import torch

    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        y = evaluate(x)
        rows = []
        for k in range(y.shape[1]):
            gradient = torch.zeros_like(x)
            if y.requires_grad:
                (gradient,) = torch.autograd.grad(y[:, k].sum(), x, retain_graph=True, materialize_grads=True)
            rows.append(torch.einsum("bp,bpd->bd", gradient.reshape(len(x), -1), tangents.flatten(1, -2)))
    return y.detach(), torch.stack(rows, dim=1)


@contextmanager
def _plain_kernels() -> Iterator[None]:
    """Switch off fused kernels (cuDNN and oneDNN recurrences, flash attention), which lack forward rules."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    mha, mkldnn = torch.backends.mha, torch.backends.mkldnn
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.callback(mha.set_fastpath_enabled, mha.get_fastpath_enabled())
        mha.set_fastpath_enabled(False)
        # Not by mkldnn.flags(), which also sets flags of Intel GPUs, and warns of them on other machines.
        stack.callback(setattr, mkldnn, "enabled", mkldnn.enabled)
        mkldnn.enabled = False
        yield


def _check_smooth(layer: Layer, x: torch.Tensor, tangents: torch.Tensor, differentiate: Differentiator) -> None:
    """Warn of operators with kinks; without any, make sure that the derivatives are those of the network."""
    if operators := kinked_operators(layer, x):
        errors.warn(
            f"{say(layer.target.name)} is computed with piecewise-linear or otherwise kinked operators "
            f"({', '.join(operators)}): Jacobians jump between the pieces, and miss a stretch that acts on a "
            "larger scale than one piece. Use covariances='bursts' with a scale wider than the pieces, or "
            "smooth activations (tanh, gelu, softplus, average pooling)",
            errors.PiecewiseLinearWarning,
        )
    else:  # central differences across kinks (ties in pooling) would prove nothing
        check_derivative(layer, x, tangents, differentiate(x, tangents)[1])


def kinked_operators(evaluate: Evaluate, x: torch.Tensor) -> list[str]:
    """Names of the operators with jumping derivatives that act on floating values computed from x.

    They are seen where torch dispatches them, so functional calls count as much as modules. Operators on
    constants (parameters, masks, positions) do not count: what is computed from x is followed.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    # Tensors by identity; keeping them alive keeps the identities unique. x is small.
    followed = {id(x): x}
    found: dict[str, None] = {}

    class Watch(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if any(id(leaf) in followed for leaf in tree_leaves((args, kwargs))):
                name = func.overloadpacket.__name__
                if name.rstrip("_") in _KINKED or "max_pool" in name:
                    found.setdefault(name.strip("_").removesuffix("_kernel"))
                followed.update(
                    (id(leaf), leaf)
                    for leaf in tree_leaves(result)
                    if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
                )
            return result

    with _plain_kernels(), Watch():
        evaluate(x)
    return list(found)


def check_derivative(evaluate: Evaluate, x: torch.Tensor, tangents: torch.Tensor, jacobians: torch.Tensor) -> None:
    """Compare Jacobians (b, m, d) with central differences along a random direction in each span of tangents.

    Automatic differentiation is silently wrong where a network leaves torch (numpy), detaches part of a
    value, or brings its own derivative. Differences at two steps, (f(x + h v) - f(x - h v)) / 2h, that agree
    with each other to 2 % and differ from J v by more than 10 % (and by more than rounding) prove that.

    Raises
    ------
    CaptureError
        Naming the first columns of y whose derivatives are wrong.
    """
    import torch

    coefficients = np.random.default_rng(0).standard_normal((len(x), tangents.shape[-1]))
    coefficients /= np.linalg.norm(coefficients, axis=1, keepdims=True)
    g = torch.tensor(coefficients, dtype=x.dtype, device=x.device)
    direction = torch.einsum("b...d,bd->b...", tangents, g)
    claimed = torch.einsum("bmd,bd->bm", jacobians, g)
    precision = float(torch.finfo(x.dtype).eps)
    # The step that balances the truncation (h^2) and the rounding (eps/h) of a central difference, times |x|.
    size = float(torch.linalg.vector_norm(x.reshape(len(x), -1), dim=1).mean()) or 1.0
    step = precision ** (1 / 3) * size
    with torch.no_grad():
        wide, narrow = ((evaluate(x + h * direction) - evaluate(x - h * direction)) / (2 * h) for h in (step, step / 2))
        floor = 10 * precision * evaluate(x).abs().amax(dim=0) / step * len(x) ** 0.5

    def norm(values: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(values, dim=0)

    larger = torch.maximum(norm(narrow), norm(claimed))
    wrong = (norm(wide - narrow) <= 0.02 * larger) & (norm(narrow - claimed) > 0.1 * larger + floor)
    if bool(wrong.any()):
        columns = torch.nonzero(wrong).flatten().tolist()
        raise errors.CaptureError(
            f"torch's derivatives are not those of the network: {len(columns)} of {wrong.numel()} measured "
            f"neurons differ from central differences by more than 10 % (first: {columns[:5]}). Some value "
            "is detached, computed outside of torch (numpy), or has its own rule for the derivative; use "
            "covariances='bursts', which need no derivatives"
        )
