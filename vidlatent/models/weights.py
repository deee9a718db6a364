"""Weights from files into networks: strict, finite, and never by running what a file says."""

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vidlatent.errors import BadWeights
from vidlatent.files import sha256_file
from vidlatent.models.base import Family, ModelSpec, Shapes
from vidlatent.models.recognise import plain_shape, rename_for

QUOTED = 3  # how many keys an error names before it only counts
_SAFE = "convert them to safetensors with the code that made them"
_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}  # of convolution weights, by dimensions

Reader = Callable[[str], Tensor]


def load_network(
    family: Family,
    spec: ModelSpec,
    path: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    sha256: str | None = None,
) -> tuple[nn.Module, str]:
    """The network of `spec`, ready to run, with the weights in `path`; and the sha256 of that file.

    If `sha256` is given the file must have it.

    Weights go tensor by tensor from the file to their place, cast on the way: no second copy of them
    all is ever held.
    """
    found = sha256_of(path, sha256)
    with torch.device("meta"):
        network = family.build(spec)
    with opened(path) as (keys, read):
        rename = rename_for(family, keys, network.state_dict())
        names = match(network, {key: rename(key) for key in keys}, path)
        tensors = {
            name: place(read(key), want, device, dtype, f"{path}: {key}")
            for key, (name, want) in names.items()
        }
    network.load_state_dict(tensors, assign=True)
    _demand_real(network, path)
    return network.eval().requires_grad_(False), found


def _demand_real(network: nn.Module, path: Path) -> None:
    """Raise BadWeights where a tensor has no values: one that is no weight, and that no file holds."""
    tensors = [*network.named_parameters(), *network.named_buffers()]
    unreal = [name for name, tensor in tensors if tensor.is_meta]
    if unreal:
        raise BadWeights(
            f"{path}: nothing gives {quoted(unreal)} a value",
            "this is a fault of vidlatent: please report it",
        )


def shapes_in(path: Path) -> Shapes:
    """The keys of a weight file and the shapes of their tensors; of a safetensors file its header is read."""
    if _is_safetensors(path):
        with _safe(path) as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    return {key: tuple(tensor.shape) for key, tensor in state_of(_unpickled(path), path).items()}


def sha256_of(path: Path, expected: str | None = None) -> str:
    """Hex sha256 of a weight file; raises BadWeights where there is none, or it is not the expected one."""
    if not path.is_file():
        raise BadWeights(f"{path}: no such file", "name a weight file, a folder that holds one, or a model")
    found = sha256_file(path)
    if expected not in (None, found):
        raise BadWeights(f"{path}: sha256 {found}, expected {expected}", "the file changed; fetch it again")
    return found


@contextmanager
def opened(path: Path) -> Iterator[tuple[list[str], Reader]]:
    """The keys of the tensors in a .safetensors file or a checkpoint, and what reads one of them."""
    if _is_safetensors(path):
        with _safe(path) as file:
            yield list(file.keys()), file.get_tensor
    else:
        tensors = state_of(_unpickled(path), path)
        yield list(tensors), tensors.__getitem__


@contextmanager
def _safe(path: Path) -> Iterator[safe_open]:
    """A safetensors file, its faults told as ours."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as e:
        raise BadWeights(f"{path}: torn or not safetensors ({e})", "download or copy it again") from e


def _is_safetensors(path: Path) -> bool:
    """By content where there is any: the file begins with a length of eight bytes, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{" or path.suffix == ".safetensors"


def _unpickled(path: Path) -> object:
    """What a PyTorch checkpoint holds, tensors mapped from the file; nothing in it is ever run."""
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"  # the format before it cannot be mapped
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as e:
        reason = str(e).strip().splitlines()[0]
        raise BadWeights(f"{path}: holds more than tensors, and is not opened ({reason})", _SAFE) from e
    except (RuntimeError, EOFError, ValueError, KeyError) as e:
        reason = str(e).strip().splitlines()[0] if str(e) else type(e).__name__
        raise BadWeights(f"{path}: torn or no checkpoint ({reason})", "download or copy it again") from e


def state_of(checkpoint: object, path: Path) -> Mapping[str, Tensor]:
    """The network's tensors in any of the layouts that training scripts write.

    The moving average of the weights where there is one, as the authors prefer; else `state_dict`,
    `model` or `module`, or the generator in it; else the checkpoint itself.
    """
    state = _names(checkpoint, "file", path)
    if state.get("ema_state_dict"):
        average = _names(state["ema_state_dict"], "ema_state_dict", path)
        state = {key.replace("module.", ""): value for key, value in average.items()}
    else:
        for part in ("state_dict", "model", "module", "gen_model"):
            state = _names(state.get(part, state), part, path)
    strange = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise BadWeights(f"{path}: {quoted(strange)} should be tensors, and are not", _SAFE)
    return state


def _names(value: object, part: str, path: Path) -> Mapping[str, object]:
    """`value`, known to map names to something; `part` says which part of the checkpoint it is."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        kind = type(value).__name__
        raise BadWeights(f"{path}: its {part} is a {kind}, expected tensors by name", _SAFE)
    return value


def match(network: nn.Module, names: Mapping[str, str | None], path: Path) -> dict[str, tuple[str, Tensor]]:
    """Which tensor of the network each key of the file fills: key → (name, the network's, on meta).

    Raises BadWeights, quoting them, where keys are unknown or missing.
    """
    wanted = network.state_dict()
    unknown = [key for key, name in names.items() if name is not None and name not in wanted]
    missing = wanted.keys() - set(names.values())
    if unknown or missing:
        faults = [f"missing {quoted(sorted(missing))}"] if missing else []
        faults += [f"not of this network {quoted(unknown)}"] if unknown else []
        raise BadWeights(f"{path}: {'; '.join(faults)}", "use the config.json that came with these weights")
    return {key: (name, wanted[name]) for key, name in names.items() if name is not None}


def place(tensor: Tensor, want: Tensor, device: torch.device | str, dtype: torch.dtype, label: str) -> Tensor:
    """A copy of a file's tensor to compute with; raises BadWeights unless it fits, and is finite."""
    tensor = tensor.reshape(plain_shape(tuple(tensor.shape), tuple(want.shape)))
    if tensor.shape != want.shape:
        raise BadWeights(
            f"{label}: shape {list(tensor.shape)}, expected {list(want.shape)}",
            "use the config.json that came with these weights",
        )
    layout = _LAYOUTS.get(tensor.dim(), torch.contiguous_format)
    kind = dtype if want.is_floating_point() else want.dtype  # counters and indices stay what they are
    placed = tensor.to(device, kind, copy=True, memory_format=layout)
    if not torch.isfinite(placed).all():
        if torch.isfinite(tensor).all():
            raise BadWeights(f"{label}: too large for {dtype}", "use another dtype")
        raise BadWeights(f"{label}: NaN or infinity", "these weights are broken; download them again")
    return placed


def quoted(keys: list[str]) -> str:
    """A count of keys and the first few of them."""
    shown = ", ".join(keys[:QUOTED]) + (" …" if len(keys) > QUOTED else "")
    return f"{len(keys)} key{'s' * (len(keys) != 1)} ({shown})"
