"""Random access: where a network may begin so that, from some latent on, it gives what the whole clip gives.

Equal bits need more than equal numbers: convolutions choose their kernel by the length of what they get. So a
part of a clip begins where one of the whole clip's windows does, and everything that a latent is made of must
come after the first window of that part, which is a frame longer, or its first frames are one.
"""

from dataclasses import dataclass

from vidlatent.engine.model import Model
from vidlatent.engine.plan import suited
from vidlatent.models.base import ModelSpec
from vidlatent.windows import Plan, TimeRule


@dataclass(frozen=True)
class Access:
    """How one half of a network is entered in the middle of a clip.

    `each` is how many inputs of `rule` make a latent, `horizon` how many latents it sees back (None: there is
    no end to that), and `shared` how many latents a window without state has in common with the one before.
    """

    rule: TimeRule
    each: int
    horizon: int | None = None
    shared: int = 0

    @classmethod
    def to_encoder(cls, model: Model, plan: Plan, height: int, width: int) -> "Access":
        """For frames of this size."""
        spec = model.spec
        rule = suited(plan, spec, height, width, model.runtime.on_gpu).encode_time
        horizon = see_back(spec, rule, spec.horizon and spec.horizon.encode)
        return cls(rule, spec.grid.time, horizon, spec.grid.latents(rule.overlap))

    @classmethod
    def to_decoder(cls, model: Model, plan: Plan, height: int, width: int) -> "Access":
        """For latents of this size."""
        spec, space = model.spec, model.spec.grid.space
        rule = suited(plan, spec, height * space, width * space, model.runtime.on_gpu).decode_time
        return cls(rule, 1, see_back(spec, rule, spec.horizon and spec.horizon.decode), rule.overlap)

    @property
    def step(self) -> int:
        """Latents that each window adds; 0 where a clip is not cut."""
        return self.rule.stride // self.each

    @property
    def is_anywhere(self) -> bool:
        """Whether a clip may be entered elsewhere than at its beginning."""
        return bool(self.step) and (not self.rule.carries or self.horizon is not None)

    @property
    def lead(self) -> int:
        """The most latents that go in for nothing before one comes out as in the whole clip."""
        return self.horizon + 2 * self.step if self.rule.carries else self.shared + self.step

    def begin(self, latent: int, latents: int) -> int:
        """The latent to begin at so that `latent` and those after it come out as in the whole clip.

        The clip has `latents`, or at least so many.
        """
        if not self.is_anywhere:
            return 0
        if self.rule.carries:
            return max(0, (latent - self.horizon - 1) // self.step - 1) * self.step
        window = max(0, (latent - self.shared) // self.step)
        longest = -(-self.rule.longest // self.each)
        while self.rule.blend and window and latents - window * self.step < longest:
            window -= 1  # a clip that begins here might be too short to be cut at all
        return window * self.step


def see_back(spec: ModelSpec, rule: TimeRule, horizon: int | None) -> int | None:
    """How many latents back a network sees that runs by this rule; None where nobody knows an end to it."""
    if horizon is None or not rule.exact or (spec.grows and not rule.past):
        return None
    return horizon + max(0, rule.past - 1)
