"""The dtypes that networks compute in and latents are stored in, under each of their three names.

Ours (`fp32`) stands on the command line, in headers and in reports. safetensors writes `F32` beside each
tensor of a file. torch calls it `float32`; that name is looked up where torch is imported, not here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dtype:
    """One dtype: its name in safetensors files, and the attribute of the module `torch` that it is."""

    stored: str
    torch: str


DTYPES = {
    "fp32": Dtype("F32", "float32"),
    "fp16": Dtype("F16", "float16"),
    "bf16": Dtype("BF16", "bfloat16"),
}
STORED_DTYPES = tuple(dtype.stored for dtype in DTYPES.values())
