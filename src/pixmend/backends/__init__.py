"""What computes the network: torch, OpenVINO or ONNX Runtime behind one call. docs/backends.md says which, and why.

Names are checked here without loading any of them; what a backend needs is imported when it is opened.
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING, Protocol, cast

from pixmend.errors import BackendError, OptionError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pixmend.checkpoint import Model

BACKENDS = ("auto", "torch", "openvino", "onnx")
NEEDED = {"openvino": ("openvino",), "onnx": ("onnx", "onnxruntime", "onnxscript")}  # packages; the extra has the name

# Parameters of the networks that "auto" gives to OpenVINO. Compiling takes seconds, which a tiny network never gains
# back; a very large one fills the disk with what is kept of it.
SMALLEST, LARGEST = 500_000, 100_000_000


class OpenNetwork(Protocol):
    """A network that is ready to be called, whatever computes it."""

    @property
    def name(self) -> str:
        """The backend that computes it: "torch", "openvino" or "onnx"."""

    @property
    def description(self) -> str:
        """What computes it, for people: the library, its number format and its threads or device."""

    @property
    def device(self) -> torch.device:
        """Where its inputs and outputs are."""

    @property
    def dtype(self) -> torch.dtype:
        """What its convolutions and products are computed in: bfloat16 or float32."""

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x: (B, C, H, W) float32; t: (B,), of any number type. Returns (B, 3, H, W), float32."""


class Careful:
    """A fast network that goes over to a sure one when it fails, and warns of it once.

    Without a sure one, as where the fast one was asked for by name, its error says what to do.
    """

    def __init__(self, fast: OpenNetwork, sure: OpenNetwork | None = None) -> None:
        self._now, self._sure = fast, sure

    @property
    def falls_back(self) -> bool:
        """Whether there is a sure one: it was left to pixmend what computes the network."""
        return self._sure is not None

    @property
    def name(self) -> str:
        return self._now.name

    @property
    def description(self) -> str:
        return self._now.description

    @property
    def device(self) -> torch.device:
        return self._now.device

    @property
    def dtype(self) -> torch.dtype:
        return self._now.dtype

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """As of any `OpenNetwork`; the call that fails is made again."""
        now = self._now
        try:
            return now(x, t)
        except BackendError as error:
            if self._sure is None:
                raise BackendError(f"{error}; take --backend torch") from error
            self._now = self._sure
            warnings.warn(f"{error}; {self._sure.name} computes the network instead", stacklevel=2)
            return self._sure(x, t)


def check_backend(backend: str | None, device: str | None = None) -> None:
    """Refuse, without loading anything, a backend that is not known, not installed, or not for the device.

    Raises OptionError and BackendError.
    """
    if backend is not None and backend not in BACKENDS:
        raise OptionError(f"backend {backend!r} is not known; choose one of {', '.join(BACKENDS)}")
    if backend in NEEDED:
        if device not in (None, "auto", "cpu"):
            raise OptionError(f"backend {backend} computes on the processor, not on {device!r}; leave the device out")
        missing = missing_packages(backend)
        if missing:
            raise BackendError(
                f"backend {backend} needs {' and '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not "
                f"installed; install pixmend[{backend}], or take --backend torch"
            )


def missing_packages(extra: str) -> list[str]:
    """Which packages of an extra are not installed."""
    return [name for name in NEEDED[extra] if importlib.util.find_spec(name) is None]


def open_network(model: Model, backend: str | None = None, device: str | None = None) -> OpenNetwork:
    """The model's network, ready to be called.

    backend: a name in `BACKENDS`; None is "auto": on a processor, OpenVINO where it `suits_openvino`, else torch. If
        OpenVINO fails then, there is one warning, and torch goes on.
    device: as for `pick_device`. OpenVINO and ONNX Runtime compute on the processor.
    With torch the model's own network is moved to the device, and not copied: it may be large. The others compute with
    the weights as they are at their first call; after a change of these, open it again.
    Raises OptionError, and BackendError where a backend that was asked for is not installed or fails.
    """
    check_backend(backend, device)
    from pixmend.backends.with_torch import TorchNetwork
    from pixmend.runtime import pick_device

    if backend in NEEDED:
        try:
            network = _opened(model, backend)
        except BackendError as error:
            raise BackendError(f"{error}; take --backend torch") from error
        return Careful(network)
    place = pick_device(device)
    sure = TorchNetwork(model.network, place)
    if backend == "torch" or place.type != "cpu" or not suits_openvino(model):
        return sure
    try:
        return Careful(_opened(model, "openvino"), sure)
    except BackendError as error:
        warnings.warn(f"{error}; torch computes the network instead", stacklevel=2)
        return sure


def _opened(model: Model, backend: str) -> OpenNetwork:
    """The network in a backend of `NEEDED`, whose packages are there and may be broken. Raises BackendError."""
    try:
        if backend == "onnx":
            from pixmend.backends.with_onnx import OnnxNetwork

            return OnnxNetwork(model)
        from pixmend.backends.with_openvino import OpenVinoNetwork

        return OpenVinoNetwork(model)
    except (ImportError, AttributeError, OSError) as error:  # of a library that is missing, or of another version
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise BackendError(f"backend {backend} cannot be loaded ({why})") from error


def kept_open(model: Model, backend: str | None = None, device: str | None = None) -> OpenNetwork:
    """`open_network`, once for a model: what it gives is kept for as long as the weights stay as they are."""
    import torch

    def weights() -> list[tuple[int, ...]]:
        # Writing into a parameter counts its version up, what replaces it has another identity, and what was moved lies
        # elsewhere. Only what writes through `.data` is not seen.
        return [(id(p), p.data_ptr(), 0 if p.is_inference() else p._version) for p in model.network.parameters()]

    key = backend, device, torch.get_num_threads()
    of_weights, network = model.opened.get(key, (None, None))
    if of_weights != weights():
        network = open_network(model, backend, device)  # may move the weights
        model.opened[key] = weights(), network
    return cast(OpenNetwork, network)


def suits_openvino(model: Model) -> bool:
    """Whether OpenVINO is there and faster than torch: in bfloat16, for a network neither too small nor too large.

    In float32 torch is as fast (docs/backends.md). Networks that pixmend did not build are left to torch as well.
    """
    import torch

    from pixmend.runtime import fast_dtype

    if missing_packages("openvino") or fast_dtype(torch.device("cpu")) != torch.bfloat16:
        return False
    return hasattr(model.network, "at_time") and SMALLEST <= model.network.parameter_count <= LARGEST
