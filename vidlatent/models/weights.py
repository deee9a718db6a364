"""Weights from files into networks: strict, finite, and never by running what a file says."""

import hashlib
import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor, nn

from vidlatent.errors import BadWeights
from vidlatent.models.base import MODULES_OF, Family, ModelSpec, Verb
from vidlatent.models.config_values import naming_config
from vidlatent.models.convolution import layout_of
from vidlatent.models.hashes import find_sha256, forget_sha256
from vidlatent.models.recognise import naming_for, plain_shape
from vidlatent.models.tensor_file import opened, quoted


def load_network(  # noqa: PLR0913  what, from where, to where, and how much of it
    family: Family,
    spec: ModelSpec,
    path: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    sha256: str | None = None,
    only: Verb | None = None,
) -> tuple[nn.Module, str]:
    """The network of `spec`, ready to run, with the weights in `path`; and the sha256 of these.

    That is the hash of the file; of one that holds other networks too, which may be many times as large, the
    hash of what is read (see `Digest`). If `sha256` is given the file must have it.

    Weights go tensor by tensor from the file to their place, cast on the way: no second copy of them
    all is ever held. What the network keeps as buffers is not cast. With `only` one of its verbs the network
    has nothing that the other one alone would use.
    """
    whole = sha256_of(path, sha256) if sha256 else None
    demand_file(path)
    network = build_empty(family, spec, path)
    cast = {name for name, parameter in network.named_parameters() if parameter.is_floating_point()}
    with opened(path) as file:
        naming = naming_for(family, file.shapes, network.state_dict())
        names = match(network, {key: naming(key) for key in file.shapes}, path)
        digest = None if all(key.startswith(naming.prefix) for key in file.shapes) else Digest()
        if only:
            _drop_idle(network, only)
        used, tensors = network.state_dict().keys(), {}
        for key, (name, want) in names.items():
            if name not in used and not digest:
                continue
            tensor = file.read(key)
            if digest:
                digest.add(key.removeprefix(naming.prefix), tensor)
            if name in used:
                kind = dtype if name in cast else want.dtype
                tensors[name] = place(tensor, want, device, kind, f"{path}: {key}")
    network.load_state_dict(tensors, assign=True)
    _demand_real(network, path)
    if family.learn is not None:
        network.spec = family.learn(network, path)
    return network.eval().requires_grad_(False), digest.sha256 if digest else whole or find_sha256(path)


def build_empty(family: Family, spec: ModelSpec, where: Path) -> nn.Module:
    """The network of `spec` without numbers, which takes no memory; BadWeights where it cannot be made."""
    with torch.device("meta"), naming_config(where):
        return family.build(spec)


def _drop_idle(network: nn.Module, only: Verb) -> None:
    """Take out of a network what `only` one of its verbs has no use for."""
    for verb, modules in MODULES_OF.items():
        for name in modules if verb != only else ():
            if hasattr(network, name):
                delattr(network, name)


class Digest:
    """The hash of some of the tensors in a file: the same wherever they are, and whatever is beside them.

    It is the sha256 of a JSON text, keys sorted and without spaces, that maps the name of each tensor to its
    dtype, its shape and the sha256 of its bytes.
    """

    def __init__(self) -> None:
        self._facts: dict[str, list[object]] = {}

    def add(self, name: str, tensor: Tensor) -> None:
        """Take in one tensor."""
        raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        dtype = str(tensor.dtype).removeprefix("torch.")
        self._facts[name] = [dtype, list(tensor.shape), hashlib.sha256(raw).hexdigest()]

    @property
    def sha256(self) -> str:
        """The hash of all that was taken in, 64 hexadecimal digits."""
        text = json.dumps(self._facts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _demand_real(network: nn.Module, path: Path) -> None:
    """Raise BadWeights where a tensor has no values: one that is no weight, and that no file holds."""
    tensors = [*network.named_parameters(), *network.named_buffers()]
    unreal = [name for name, tensor in tensors if tensor.is_meta]
    if unreal:
        raise BadWeights(
            f"{path}: nothing gives {quoted(unreal)} a value",
            "this is a fault of vidlatent: please report it",
        )


def demand_file(path: Path) -> None:
    """Raise BadWeights where there is no file."""
    if not path.is_file():
        raise BadWeights(f"{path}: no such file", "name a weight file, a folder that holds one, or a model")


def sha256_of(path: Path, expected: str | None = None) -> str:
    """Hex sha256 of a weight file; raises BadWeights where there is none, or it is not the expected one."""
    demand_file(path)
    found = find_sha256(path)
    if expected not in (None, found):
        forget_sha256(path)  # what is refused is looked at again next time
        raise BadWeights(f"{path}: sha256 {found}, expected {expected}", "the file changed; fetch it again")
    return found


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
    """A file's tensor, to compute with; raises BadWeights unless it fits, and is finite.

    It is copied where it must change, and where its memory is not its own.
    """
    tensor = tensor.reshape(plain_shape(tuple(tensor.shape), tuple(want.shape)))
    if tensor.shape != want.shape:
        raise BadWeights(
            f"{label}: shape {list(tensor.shape)}, expected {list(want.shape)}",
            "use the config.json that came with these weights",
        )
    shared = tensor.untyped_storage().nbytes() != tensor.nbytes
    placed = tensor.to(device, dtype, copy=shared, memory_format=layout_of(tensor, device))
    if not _is_finite(placed):
        if torch.isfinite(tensor).all():
            raise BadWeights(f"{label}: too large for {dtype}", "use another dtype")
        raise BadWeights(f"{label}: NaN or infinity", "these weights are broken; download them again")
    return placed


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers of a tensor without gaps are finite: told by the extremes, which copies nothing."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return all(map(isfinite, torch.aminmax(tensor.as_strided((tensor.numel(),), (1,)))))
