"""float32 is float32 inside, and the process's settings are as they were outside."""

import threading

import numpy as np
import torch

import vidlatent
from vidlatent.metrics.lpips import Lpips
from vidlatent.metrics.ssim import Ssim
from vidlatent.precision import _knobs, true_float32


def settings() -> list[object]:
    return [getattr(owner, name) for owner, name, _ in _knobs()]


EXACT = [exact for _, _, exact in _knobs()]


def test_settings_come_back_also_after_an_error():
    before = settings()
    try:
        with true_float32():
            assert settings() == EXACT != before
            raise ValueError
    except ValueError:
        pass
    assert settings() == before


def test_the_last_thread_to_leave_puts_them_back():
    before, entered, leave = settings(), threading.Event(), threading.Event()

    def other():
        with true_float32():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with true_float32():
        thread.start()
        assert entered.wait(10)
    assert settings() == EXACT  # the other one still counts on it
    leave.set()
    thread.join()
    assert settings() == before


def test_networks_and_metrics_compute_under_it(monkeypatch, moving_clip):
    seen = []
    conv2d = torch.nn.functional.conv2d

    def watched(*args, **kwargs):
        seen.append(settings())
        return conv2d(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "conv2d", watched)
    frames = moving_clip(5, 64, 64)
    model = vidlatent.load_model("pocket", device="cpu")
    for moments in model.encode_stream(list(frames)):
        list(model.decode_stream(moments.chunk(2, dim=1)[0].unbind(2)))
    after_networks = len(seen)
    pair = torch.from_numpy(frames), torch.from_numpy(np.roll(frames, 1, axis=1))
    Ssim().update(*pair)
    Lpips().update(*pair)
    assert 0 < after_networks < len(seen)
    assert all(each == EXACT for each in seen)
