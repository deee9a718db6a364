"""Layers that several architectures share, for whole clips: attention, residual blocks, samplers."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidlatent.models.clips import as_clip, as_frames, empty_clip, repeat_first
from vidlatent.models.convolution import CausalConv3d, FrameConv2d, owed
from vidlatent.models.norms import GroupNorm
from vidlatent.models.passes import add
from vidlatent.models.subpixel import enlarge_frames

_SCORES = 1 << 24  # of an attention that are held at once


def frame_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Every position of a frame attends to all positions of that frame, one head: [N, C, H, W] each."""
    # [N, 1, H·W, C]. With channels that lie apart PyTorch holds a score for every pair of positions.
    tokens = [x.flatten(2).transpose(1, 2).contiguous().unsqueeze(1) for x in (q, k, v)]
    mixed = F.scaled_dot_product_attention(*tokens)
    return mixed.squeeze(1).transpose(1, 2).unflatten(2, q.shape[2:])


def attend(q: Tensor, seen: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Positions [B, n, C] attend to those of several frames, one head; `seen` has keys and values [B, m, C].

    One softmax, in float32, over the positions of all frames, without joining them: what the earlier ones
    gave is scaled down where a later one has a larger score. torch's own kernel for CPUs takes a rough
    exponential, which costs half of the error that the parity of a whole network may have.
    """
    seen = list(seen)
    most = max(keys.shape[:2].numel() for keys, _ in seen)
    parts = q.split(max(1, _SCORES // most), dim=1)
    return torch.cat([_attend(part.float(), seen) for part in parts], dim=1).to(q.dtype)


def _attend(q: Tensor, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
    q = q * q.shape[-1] ** -0.5
    mixed, total = torch.zeros_like(q), torch.zeros_like(q[..., :1])
    top = torch.full_like(total, -torch.inf)
    for keys, values in seen:
        scores = q @ keys.float().mT  # [B, n, m]
        before, top = top, torch.maximum(top, scores.amax(-1, keepdim=True))
        weights, less = scores.sub_(top).exp_(), (before - top).exp_()
        total.mul_(less).add_(weights.sum(-1, keepdim=True))
        mixed.mul_(less).baddbmm_(weights, values.float())
    return mixed.div_(total)


class ResBlock(nn.Module):
    """Norm, SiLU and convolution, twice, added to the input: all over the clip, or all frame by frame."""

    def __init__(self, conv: type[CausalConv3d | FrameConv2d], inputs: int, outputs: int) -> None:
        super().__init__()
        per_frame = conv is FrameConv2d
        self.norm1 = GroupNorm(inputs, per_frame=per_frame)
        self.conv1 = conv(inputs, outputs, 3, 1, 1)
        self.norm2 = GroupNorm(outputs, per_frame=per_frame)
        self.conv2 = conv(outputs, outputs, 3, 1, 1)
        self.nin_shortcut = nn.Identity() if inputs == outputs else conv(inputs, outputs, 1, 1, 0)
        self.conv1.owes = self.conv2.owes = True

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C', T, H, W]."""
        front = self.conv1.front
        room = self.norm1.silu(x, front)
        h = self.conv1.ready(room)
        room = self._room(room, h)  # fresh memory costs as much as a pass over it
        h = self.norm2.silu(h, front, room, owed(self.conv1, h))
        del room
        h = self.conv2.ready(h)
        return add(h, self.nin_shortcut(x), owed(self.conv2, h))

    @staticmethod
    def _room(before: Tensor, h: Tensor) -> Tensor | None:
        """What the second norm may write over: its own input, else the first one's output if that fits."""
        same_frames, same_width = before.shape[2] == h.shape[2], before.shape[1] == h.shape[1]
        return h if same_frames else before if same_width else None


class Attention(nn.Module):
    """Attention within each frame, one head, added to the input.

    `fold` and `unfold` turn a clip into frames and back.
    """

    fold, unfold = staticmethod(as_frames), staticmethod(as_clip)

    def __init__(self, channels: int, conv: type[CausalConv3d | FrameConv2d] = CausalConv3d) -> None:
        super().__init__()
        self.norm = GroupNorm(channels, per_frame=conv is FrameConv2d)
        self.q, self.k, self.v, self.proj_out = (conv(channels, channels, 1, 1, 0) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → the same shape."""
        h = self.norm(x)
        mixed = frame_attention(*(self.fold(part(h)) for part in (self.q, self.k, self.v)))
        return self.proj_out(self.unfold(mixed, len(x))).add_(x)


class Down(nn.Module):
    """Halve the frame, or the frame and the frame rate, by a strided convolution; zeros right and below."""

    def __init__(self, conv: CausalConv3d | FrameConv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, T', H/2, W/2], rounded down."""
        front, (height, width) = self.conv.front, x.shape[3:]
        padded = empty_clip(x, front + x.shape[2], height + 1, width + 1)
        padded[:, :, front:, :height, :width] = x
        padded[..., height:, :] = 0
        padded[..., width:] = 0
        padded[:, :, :front] = padded[:, :, front : front + 1]
        return self.conv.ready(padded)


class Up(nn.Module):
    """Double the frame, or the frame and the frame rate, by linear interpolation; then convolve."""

    def __init__(self, conv: CausalConv3d, time: bool = False) -> None:
        super().__init__()
        self.conv, self.time = conv, time

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, T or 2T-1, 2H, 2W]."""
        front = self.conv.front  # interpolated with the rest, which spares a copy of the large clip
        x = double_time(x, front) if self.time else repeat_first(x, front)
        return self.conv.ready(
            as_clip(F.interpolate(as_frames(x), scale_factor=2.0, mode="bilinear"), len(x))
        )


class NearestUp(nn.Module):
    """Double each frame by nearest neighbours, then convolve it by itself: a kernel of 3×3 among zeros."""

    def __init__(self, conv: CausalConv3d | FrameConv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, T, 2H, 2W]."""
        if isinstance(self.conv, FrameConv2d):
            return enlarge_frames(x, self.conv.weight, self.conv.bias)
        return enlarge_frames(x, self.conv.conv.weight.squeeze(2), self.conv.conv.bias)


def double_time(x: Tensor, front: int = 0) -> Tensor:
    """T frames → `front` copies of the first, the first, and the others interpolated to twice their number.

    Between the others interpolation has half-pixel centres: 3/4 of the nearer frame, 1/4 of the farther.
    """
    frames = x.shape[2]
    out = empty_clip(x, front + 2 * frames - 1, *x.shape[3:])
    out[:, :, : front + 1] = x[:, :, :1]
    if frames > 1:
        before, after = x[:, :, 1:-1], x[:, :, 2:]
        early, late = out[:, :, front + 1 :: 2], out[:, :, front + 2 :: 2]  # the two made of each frame
        early[:, :, :1] = x[:, :, 1:2]
        torch.lerp(before, after, 0.75, out=early[:, :, 1:])
        torch.lerp(before, after, 0.25, out=late[:, :, :-1])
        late[:, :, -1:] = x[:, :, -1:]
    return out
