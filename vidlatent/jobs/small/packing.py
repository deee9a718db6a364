"""Finds the steps that cost a clip as much as it may lose, and says what was measured.

Rounding latents to steps adds to the squared error of the decoded video about what the sensitivities of the
channels say. So the first steps come of a formula; then they are tried, and what they cost corrects it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from time import perf_counter

import numpy as np
from torch import Tensor

from vidlatent.engine.model import Model
from vidlatent.errors import BadInput, parameter
from vidlatent.io.coded.packed import SMALLEST_STEP, Fitted, Packed, choose_sample, fit
from vidlatent.io.latent.reader import LatentReader
from vidlatent.jobs.progress import SILENT, Progress
from vidlatent.jobs.small.asks import ClipLatents, Trying
from vidlatent.jobs.small.base import read_base
from vidlatent.jobs.small.budget import Budget
from vidlatent.jobs.small.errors import SAME, Errors
from vidlatent.jobs.small.sensitivity import find_sensitivities
from vidlatent.jobs.small.steps import COARSEST, FINEST, ChannelFacts, Steps, measure_latent_snr
from vidlatent.jobs.small.trial import Frames, Requantised, Trial

AIM, NEAR = 0.985, 0.97  # of the budget, what is aimed at; of that, what is near enough
SMOOTH, LOWER = 2, 0.9  # after so many tries that cost too much, so much less is aimed at
TRIES = 8
ALIKE = 1.01  # two k so near to each other are not told apart
NOTHING = 1e-12  # the least squared error that steps are said to add
ASSUMED_DB = 40.0  # PSNR of the model where nobody has measured it; few clips decode better
BY_SOURCE = "against the source"
BY_FILE = "against the source, by what was measured when it was encoded"
BY_BOUND = f"at most, without the source, if the model's own PSNR is {ASSUMED_DB:g} dB or less"
PROBED, PROBED_SNR_DB = 4, 20.0  # a trellis is tried on one of so many parts of a sample, with this SNR
BLIND_SNR_DB = 26.0  # of the latents where no decoder tells what matters: about 0.1 dB with `pocket`


class Packing:
    """One clip that is to be packed, what tries it, and what its channels weigh, where there is a decoder.

    What is learned of the clip for one budget is used for the next.
    """

    def __init__(self, latents: ClipLatents, trial: Trying | None, seen: np.ndarray | None) -> None:
        self._latents, self._trial = latents, trial
        self._facts = ChannelFacts.of(latents)
        if (channel := self._facts.find_too_large()) is not None:
            raise BadInput(
                f"{latents.path}: latents of channel {channel} are beyond 2^120, which cannot be packed",
                f"look where they come from, or store bf16 with {parameter('pack')}",
            )
        self._seen = 1 / np.square(np.maximum(self._facts.deviation, SMALLEST_STEP)) if seen is None else seen
        self._base: Errors | None = None
        self._kept = False  # whether the base is what was measured when the clip was encoded
        self._added: tuple[np.ndarray, float] | None = None  # what steps added, and what was expected of them
        self.notices: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        latents: LatentReader,
        model: Model | None,
        source: Frames | None = None,
        progress: Progress = SILENT,
        seen: np.ndarray | None = None,
    ) -> "Packing":
        """The latents of a file, the model that decodes them, and what begins their source anew.

        `seen` is what the model's channels weigh, where that is known by now.
        """
        if model is None:
            return cls(latents, None, None)
        seen = find_sensitivities(model, progress) if seen is None else seen
        return cls(latents, Trial(latents, model, source, progress), seen)

    def find_form(self, budget: Budget) -> Packed:
        """The form with the steps that the budget allows, and what was measured of it."""
        steps = Steps(self._facts, self._seen, budget.min_latent_snr, self._suits_trellis)
        if self._trial is None:
            return self._go_blind(steps)
        began, decodes = perf_counter(), self._trial.decodes
        k, found = self._choose(steps, budget)
        form = self._fit(steps, k)
        found = found or self._measure(steps, k)
        price = {**self._describe_steps(k, form), **self._describe(found)}
        seconds, decodes = perf_counter() - began, self._trial.decodes - decodes
        self.notices = (
            f"{tell_drop(price)}; to measure it took {decodes} decodes of {self._trial.frames} frames, "
            f"{seconds:.1f} s",
        )
        return replace(form, price=price)

    @cached_property
    def _suits_trellis(self) -> bool:
        """Whether a trellis saves bits here; where frames hardly change it would make them differ.

        A part of the clip is coded in both ways, with as much noise.
        """
        sample = [chunk[:, :, : -(-chunk.shape[2] // PROBED)].contiguous() for chunk in self._sample()]
        sizes = []
        for trellis in (False, True):
            steps = Steps(self._facts, self._seen, PROBED_SNR_DB, trellis).at(COARSEST)
            form = fit(self._latents.shape, sample, self._facts.mean, steps, trellis)
            sizes.append(sum(len(form.code(chunk)[0]) for chunk in sample))
        return sizes[1] < sizes[0]

    def _go_blind(self, steps: Steps) -> Packed:
        """The form where no decoder tells what matters: steps by deviation."""
        k = math.sqrt(12) * 10 ** (-max(BLIND_SNR_DB, steps.floor_db) / 20)
        form = self._fit(steps, k)
        price = {**self._describe_steps(k, form), "steps": "by deviation"}
        snr = price["latent_snr_db"].get("worst", math.inf)
        self.notices = (f"no decoder at hand: steps by deviation, latent SNR {snr:g} dB, nothing measured",)
        return replace(form, price=price)

    def _fit(self, steps: Steps, k: float) -> Packed:
        return fit(self._latents.shape, self._sample(), self._facts.mean, steps.at(k), steps.trellis)

    def _choose(self, steps: Steps, budget: Budget) -> tuple[float, Errors | None]:
        """The k to use, and the errors that it was found to have, where it was tried."""
        if budget.drop is not None:
            return self._find_drop(steps, budget.drop)
        return budget.step or self._find_rate(steps, budget.bpp), None

    def _find_drop(self, steps: Steps, allowed: float) -> tuple[float, Errors]:
        """The largest k found whose drop is allowed, and its errors.

        What was measured says which k to try next. Small clips leap: where that is no k between the largest
        that was allowed and the smallest that was not, one in their middle is tried, and where several tries
        cost too much, less is aimed at. The last two of a clip for which nothing was allowed are half of that
        smallest k, and the finest steps there are.
        """
        best, low, high, aim = None, FINEST, COARSEST, AIM * allowed
        for left in reversed(range(TRIES)):
            k = solve(lambda k, aim=aim: self._predict(steps, k), aim)
            if not low < k < high:
                k = math.sqrt(low * high) if best else high / 2
            if best is None and left < 2:
                k = high / 2 if left else FINEST
            found = self._measure(steps, k)
            drop = found.drop_from(self.base)
            if drop <= allowed:
                best, low = (k, found), k
                if drop >= NEAR * aim or steps.added(k) == steps.added(COARSEST):
                    break
            else:
                high = k
                aim *= LOWER if best is None and left < TRIES - SMOOTH else 1
            if best and high < ALIKE * low:
                break
        if best is None:
            raise BadInput(
                f"{self._latents.path}: no steps cost less than {allowed:g} dB, the finest {drop:.3g} dB",
                f"allow more by {parameter('max_drop')}, or store bf16 with {parameter('pack')}",
            )
        return best

    @property
    def base(self) -> Errors:
        """The errors of the latents as they are.

        Where there is no source they are those that the file keeps of its encoding, or else assumed.
        """
        if self._base is None and self._trial.has_source:
            self._base = self._trial.measure_base()
        elif self._base is None:
            kept = read_base(self._latents.header.extra, self._trial.spans)
            self._kept = kept is not None
            self._base = kept or Errors(np.full(self._trial.frames, 10 ** (-ASSUMED_DB / 10)))
        return self._base

    def _predict(self, steps: Steps, k: float) -> float:
        """The drop that is to be expected at k, by the last errors that were measured."""
        added, expected = self._added or (np.full(self._trial.frames, 0.25), 1.0)  # a peak of 1, not of 2
        return Errors(self.base.each + added * (steps.added(k) / expected)).drop_from(self.base)

    def _measure(self, steps: Steps, k: float) -> Errors:
        """The errors at k; without a source those against the latents as they are, on top of their own."""
        empty = np.zeros((len(self._facts.mean), 0), np.int8)
        fitted = Fitted(self._facts.mean.astype("<f4"), steps.at(k).astype("<f4"), empty, steps.trellis)
        found = self._trial.measure(Requantised(self._latents, fitted))
        if not self._trial.has_source:
            found = Errors(self.base.each + np.where(found.each > 1.001 * SAME, found.each, 0))
        self._added = np.maximum(found.each - self.base.each, NOTHING), steps.added(k)
        return found

    def _sample(self) -> list[Tensor]:
        """Parts of the latents' chunks, to fit the predictor to."""
        chunks, rows = choose_sample(self._latents.shape)
        return [self._latents.read_checked(*span)[:, :, rows].float().contiguous() for span in chunks]

    def _find_rate(self, steps: Steps, wanted: float) -> float:
        """The k at which latents take so many bits per pixel of the source, by a sample of them."""
        clip, shape, sample = self._latents.header.source, self._latents.shape, self._sample()
        share = sum(chunk.numel() for chunk in sample) / math.prod(shape)
        pixels = clip.frames * clip.width * clip.height * share

        def rate(k: float) -> float:
            form = fit(shape, sample, self._facts.mean, steps.at(k), steps.trellis)
            return 8 * sum(len(form.code(chunk)[0]) for chunk in sample) / pixels

        return solve(lambda k: -rate(k), -wanted, turns=12)

    def _describe_steps(self, k: float, form: Packed) -> dict[str, object]:
        return {"k": float(f"{k:.6g}"), "latent_snr_db": measure_latent_snr(self._facts, form.fitted.noise)}

    def _describe(self, found: Errors) -> dict[str, object]:
        """What was measured, as plain values."""
        drop, spans = round(found.drop_from(self.base), 4), [list(span) for span in self._trial.spans]
        said = {"drop_db": drop, "frames": spans}
        if self._trial.has_source:
            return {**said, "base_psnr_db": round(self.base.psnr, 3), "against": BY_SOURCE}
        between = Errors(np.maximum(found.each - self.base.each, SAME))
        said["between_psnr_db"] = round(between.psnr, 3)
        if self._kept:
            return {**said, "base_psnr_db": round(self.base.psnr, 3), "against": BY_FILE}
        return {**said, "against": BY_BOUND}


def tell_drop(price: Mapping[str, object]) -> str:
    """What was measured, in words."""
    between = price.get("between_psnr_db")
    beside = "" if between is None else f" ({between:g} dB between the two decodes)"
    return f"{price['drop_db']:g} dB {price['against']}{beside}"


def solve(rising: Callable[[float], float], wanted: float, turns: int = 50) -> float:
    """The k, from FINEST to COARSEST, at which a rising function has the value `wanted`, or next to it."""
    low, high = math.log(FINEST), math.log(COARSEST)
    for _ in range(turns):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(math.exp(middle)) < wanted else (low, middle)
    return math.exp(low)
