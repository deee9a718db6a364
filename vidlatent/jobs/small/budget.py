"""Finds the steps that cost a clip as much as it may lose, and says what was measured.

Rounding latents to steps adds to the squared error of the decoded video about what the sensitivities of the
channels say. So the first steps come of a formula; then they are tried, and what they cost corrects it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from torch import Tensor

from vidlatent.engine.model import Model
from vidlatent.errors import UsageError, parameter
from vidlatent.io.coded.form import CHUNK
from vidlatent.io.coded.packed import SMALLEST_STEP, Fitted, Packed, choose_sample, fit
from vidlatent.io.latent.reader import LatentReader
from vidlatent.jobs.progress import SILENT, Progress
from vidlatent.jobs.small.sensitivity import find_sensitivities
from vidlatent.jobs.small.steps import COARSEST, ChannelFacts, Steps, measure_latent_snr
from vidlatent.jobs.small.trial import Errors, Frames, Requantised, Trial

DEFAULT_DROP_DB = 0.1
AIM, NEAR = 0.97, 0.93  # of the budget, what is aimed at; of that, what is near enough
SMOOTH, LOWER = 2, 0.9  # after so many tries that cost too much, so much less is aimed at: small clips leap
TRIES = 8
NOTHING = 1e-12  # the least squared error that steps are said to add
ASSUMED_DB = 40.0  # PSNR of the model without a source to measure it by; few clips decode better
BLIND_SNR_DB = 26.0  # of the latents where no decoder tells what matters: about 0.1 dB with `pocket`


@dataclass(frozen=True)
class Budget:
    """What packing may cost: one of a `max_drop` of decoded PSNR in dB, of a rate `bpp` in bits per pixel of
    the source, of a `step` k, as in k/√sensitivity; 0.1 dB where none is given.

    In any case the latents of each channel keep an SNR of `min_latent_snr` dB, for those who train on them.
    """

    max_drop: float | None = None
    min_latent_snr: float = 20.0
    bpp: float | None = None
    step: float | None = None

    def __post_init__(self) -> None:
        named = (parameter("max_drop"), parameter("bpp"), parameter("step"))
        pairs = zip(named, (self.max_drop, self.bpp, self.step), strict=True)
        given = {name: value for name, value in pairs if value is not None}
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)}: one of them decides", "leave out the others")
        for name, value in given.items():
            if not 0 < value < math.inf:
                raise UsageError(f"{name} {value:g}: nothing can be that", "give a number above 0")
        if not math.isfinite(self.min_latent_snr):
            floor = f"{parameter('min_latent_snr')} {self.min_latent_snr:g}"
            raise UsageError(f"{floor}: not decibels", "give a number such as 20")

    @property
    def drop(self) -> float | None:
        """The drop that is allowed; None where something else decides."""
        free = self.bpp is None and self.step is None
        return (self.max_drop or DEFAULT_DROP_DB) if free else None


class Packing:
    """One clip that is to be packed, what tries it, and what its channels weigh, where there is a decoder.

    What is learned of the clip for one budget is used for the next.
    """

    def __init__(self, latents: LatentReader, trial: Trial | None, seen: np.ndarray | None) -> None:
        self._latents, self._trial = latents, trial
        self._facts = ChannelFacts.of(latents)
        self._seen = 1 / np.square(np.maximum(self._facts.deviation, SMALLEST_STEP)) if seen is None else seen
        self._base: Errors | None = None
        self._added: tuple[np.ndarray, float] | None = None  # what steps added, and what was expected of them
        self.notices: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        latents: LatentReader,
        model: Model | None,
        source: Frames | None = None,
        progress: Progress = SILENT,
    ) -> "Packing":
        """The latents of a file, the model that decodes them, and frames that begin their source anew."""
        if model is None:
            return cls(latents, None, None)
        return cls(latents, Trial(latents, model, source, progress), find_sensitivities(model, progress))

    def find_form(self, budget: Budget) -> Packed:
        """The form with the steps that the budget allows, and what was measured of it."""
        steps = Steps(self._facts, self._seen, budget.min_latent_snr)
        if self._trial is None:
            return self._go_blind(steps)
        began, decodes = perf_counter(), self._trial.decodes
        k, found = self._choose(steps, budget)
        form = fit(self._latents.shape, self._sample(), self._facts.mean, steps.at(k))
        found = found or self._measure(steps, k)
        price = {**self._describe_steps(k, form), **self._describe(found)}
        seconds, decodes = perf_counter() - began, self._trial.decodes - decodes
        self.notices = (
            f"{price['drop_db']:g} dB {price['against']}; to measure it took {decodes} decodes "
            f"of {self._trial.frames} frames, {seconds:.1f} s",
        )
        return replace(form, price=price)

    def _go_blind(self, steps: Steps) -> Packed:
        """The form where no decoder tells what matters: steps by deviation."""
        k = math.sqrt(12) * 10 ** (-max(BLIND_SNR_DB, steps.floor_db) / 20)
        form = fit(self._latents.shape, self._sample(), self._facts.mean, steps.at(k))
        price = {**self._describe_steps(k, form), "steps": "by deviation"}
        snr = price["latent_snr_db"].get("worst", math.inf)
        self.notices = (f"no decoder at hand: steps by deviation, latent SNR {snr:g} dB, nothing measured",)
        return replace(form, price=price)

    def _choose(self, steps: Steps, budget: Budget) -> tuple[float, Errors | None]:
        """The k to use, and the errors that it was found to have, where it was tried."""
        if budget.drop is not None:
            return self._find_drop(steps, budget.drop)
        return budget.step or self._find_rate(steps, budget.bpp), None

    def _find_drop(self, steps: Steps, allowed: float) -> tuple[float, Errors]:
        """The largest k found whose drop is allowed, and its errors."""
        best, aim = None, AIM * allowed
        for turn in range(TRIES):
            k = solve(lambda k, aim=aim: self._predict(steps, k), aim)
            found = self._measure(steps, k)
            drop = found.drop_from(self.base)
            if drop <= allowed and (best is None or k > best[0]):
                best = k, found
            widest = steps.added(k) == steps.added(COARSEST)
            if drop <= allowed and (drop >= NEAR * aim or widest):
                break
            if drop > allowed and turn >= SMOOTH:
                aim *= LOWER
        if best is None:
            raise UsageError(
                f"{self._latents.path}: {TRIES} tries found no steps that cost less than {allowed:g} dB",
                f"give a larger {parameter('max_drop')}, or {parameter('step')}",
            )
        return best

    @property
    def base(self) -> Errors:
        """The errors of the latents as they are; what is assumed of them where there is no source."""
        if self._base is None:
            assumed = Errors(np.full(self._trial.frames, 10 ** (-ASSUMED_DB / 10)))
            self._base = self._trial.measure_base() if self._trial.has_source else assumed
        return self._base

    def _predict(self, steps: Steps, k: float) -> float:
        """The drop that is to be expected at k, by the last errors that were measured."""
        added, expected = self._added or (np.full(self._trial.frames, 0.25), 1.0)  # a peak of 1, not of 2
        return Errors(self.base.each + added * (steps.added(k) / expected)).drop_from(self.base)

    def _measure(self, steps: Steps, k: float) -> Errors:
        """The errors at k; without a source those against the latents as they are, on top of the assumed."""
        empty = np.zeros((len(self._facts.mean), 0), np.int8)
        fitted = Fitted(self._facts.mean.astype("<f4"), steps.at(k).astype("<f4"), empty)
        found = self._trial.measure(Requantised(self._latents, fitted))
        if not self._trial.has_source:
            found = Errors(self.base.each + found.each)
        self._added = np.maximum(found.each - self.base.each, NOTHING), steps.added(k)
        return found

    def _sample(self) -> list[Tensor]:
        """Parts of the latents' chunks, to fit the predictor to."""
        chunks, rows = choose_sample(self._latents.shape)
        spans = ((start, min(start + CHUNK, self._latents.frames)) for start in chunks)
        return [self._latents.read_checked(*span)[:, :, rows].float().contiguous() for span in spans]

    def _find_rate(self, steps: Steps, wanted: float) -> float:
        """The k at which latents take so many bits per pixel of the source, by a sample of them."""
        clip, shape, sample = self._latents.header.source, self._latents.shape, self._sample()
        share = sum(chunk.numel() for chunk in sample) / math.prod(shape)
        pixels = clip.frames * clip.width * clip.height * share

        def rate(k: float) -> float:
            form = fit(shape, sample, self._facts.mean, steps.at(k))
            return 8 * sum(len(form.code(chunk)[0]) for chunk in sample) / pixels

        return solve(lambda k: -rate(k), -wanted, turns=12)

    def _describe_steps(self, k: float, form: Packed) -> dict[str, object]:
        return {"k": float(f"{k:.6g}"), "latent_snr_db": measure_latent_snr(self._facts, form.fitted.steps)}

    def _describe(self, found: Errors) -> dict[str, object]:
        """What was measured, as plain values."""
        drop, spans = round(found.drop_from(self.base), 4), [list(span) for span in self._trial.spans]
        said = {"drop_db": drop, "frames": spans}
        if self._trial.has_source:
            return {**said, "base_psnr_db": round(self.base.psnr, 3), "against": "against the source"}
        between = round(Errors(found.each - self.base.each).psnr, 3)
        assumed = f"at most, without the source, if the model's own PSNR is {ASSUMED_DB:g} dB or less"
        return {**said, "between_psnr_db": between, "against": assumed}


def solve(rising: Callable[[float], float], wanted: float, turns: int = 50) -> float:
    """The k, from 1e-6 to COARSEST, at which a rising function has the value `wanted`, or next to it."""
    low, high = math.log(1e-6), math.log(COARSEST)
    for _ in range(turns):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(math.exp(middle)) < wanted else (low, middle)
    return math.exp(low)
