"""Weights and inputs of the compact golden cases: a formula (numpy only), exact and platform independent.

raw      n 64-bit words of PCG64(seed).random_raw; seed = first 8 bytes, big endian, of sha256("<case>/<key>")
uniform  u = (raw >> 40) * 2**-24 * 2 - 1, float32 in [-1, 1), C order
weight   float32: u * float32(gain) + float32(offset); gain and offset follow from the key, see gain_offset
video    keys "input/<name>" (lattice) and "input/<name>/noise"; u8 by integer arithmetic,
         float32(u8) / 127.5 - 1
STREAM   all that is written into a residual stream, and conv1 of each block, is about 2**-6, so norms see
         variances of 1e-5 to 1e-3 and a wrong norm epsilon shows.
"""

import hashlib
import math
import re

import numpy as np

STREAM = 2.0**-6
INTO = re.compile(
    r"(^|\.)(conv_in|proj_out|proj_out_t|to_out\.0|encoder\.connect_l\d|down1\.0|proj|residual\.[26])\."
    r"|\.(conv1|conv2)\."  # the outermost conv1 and conv2 are Wan's quant convolutions
)
ALONG = re.compile(  # stream to stream: small bias only
    r"(sample|samplers?\.0|downsampler|upsampler|shortcut|time_conv|(down|up)\d\.\d+)\."
)
OUTOF = re.compile(r"decoder\.connect_l\d\.\d+\.weight$")  # WF-VAE: stream to wavelet coefficients
QK = re.compile(r"\.(q|k|q_t|k_t|to_q|to_k)\.")


def raw(case, key, n):
    seed = int.from_bytes(hashlib.sha256(f"{case}/{key}".encode()).digest()[:8], "big")
    return np.random.PCG64(seed).random_raw(n)


def uniform(case, key, shape):
    k = (raw(case, key, math.prod(shape)) >> np.uint64(40)).astype(np.float32)
    return (k * np.float32(2.0**-23) - np.float32(1)).reshape(shape)


def gain_offset(key, shape):
    bias = key.endswith("bias")
    if key.endswith("mix_factor"):
        return 0.5, 1.0
    if key.endswith("gamma"):  # RMS norms, whatever their name
        return 0.2, 1.0
    if ".conv_y." in key or ".conv_b." in key:  # CogVideoX: norm scaled and shifted by latents
        gain = 0.1 if bias else 0.3 / math.sqrt(math.prod(shape[1:]))
        return gain, 1.0 if bias and ".conv_y." in key else 0.0
    if "norm" in key:
        return (0.1, 0.0) if bias else (0.2, 1.0)
    gain = 0.1 if bias else 1.75 / math.sqrt(math.prod(shape[1:]))  # fan-in: all axes but the first
    gain *= 1.5 if QK.search(key) and not bias else 16.0 if OUTOF.search(key) else 1.0
    return gain * (STREAM if INTO.search(key) or (bias and ALONG.search(key)) else 1.0), 0.0


def weight(case, key, shape):
    gain, offset = gain_offset(key, shape)
    return uniform(case, key, shape) * np.float32(gain) + np.float32(offset)


def video(case, name, shape):
    """B,C,T,H,W: bilinear lattice of random bytes, gliding 1 px down and 2 px right per frame, plus noise."""
    B, C, T, H, W = shape
    gy, gx = (H + T - 2) // 8 + 2, (W + 2 * T - 3) // 8 + 2
    g = (raw(case, "input/" + name, B * C * gy * gx) >> np.uint64(56)).astype(np.int64).reshape(B, C, gy, gx)
    noise = (raw(case, f"input/{name}/noise", math.prod(shape)) >> np.uint64(60)).astype(np.int64).reshape(
        shape
    ) - 8
    t = np.arange(T)[:, None, None]
    y, x = np.arange(H)[:, None] + t, np.arange(W) + 2 * t  # (T,H,1), (T,1,W)
    (y, fy), (x, fx) = divmod(y, 8), divmod(x, 8)
    top = (8 - fx) * g[:, :, y, x] + fx * g[:, :, y, x + 1]
    low = (8 - fx) * g[:, :, y + 1, x] + fx * g[:, :, y + 1, x + 1]
    u8 = np.clip(((8 - fy) * top + fy * low + 32) // 64 + noise, 0, 255)
    return u8.astype(np.float32) / np.float32(127.5) - np.float32(1)
