"""What may be chosen for a model beside how a clip is cut: options with names, kinds and defaults."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vidlatent.errors import UsageError

Setting = bool | int | float
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Option:
    """One thing that may be chosen; it is of the kind of its default.

    A number lies from `least` to `most`. Options say how latents are decoded, unless they change the latents.
    """

    name: str
    default: Setting
    summary: str
    least: float = 0
    most: float = 1
    latents: bool = False

    def checked(self, value: object) -> Setting:
        """`value`, a setting or the text of one, as the option's kind; raises UsageError where it is none."""
        kind = type(self.default)
        try:
            found = _WORDS[value.lower()] if kind is bool and isinstance(value, str) else kind(value)
        except (KeyError, TypeError, ValueError, OverflowError):
            found = None
        rounded = kind is int and isinstance(value, float) and found != value
        if found is None or rounded or not self.least <= found <= self.most:
            raise UsageError(f"{self.name}={value}: expected {self.range}")
        return found

    @property
    def range(self) -> str:
        """What values there are, in words."""
        if isinstance(self.default, bool):
            return "true or false"
        whole = "a whole number" if isinstance(self.default, int) else "a number"
        return f"{whole} from {self.least} to {self.most}"


def checked(options: Iterable[Option], settings: Mapping[str, object], model: str) -> dict[str, Setting]:
    """`settings` as the options' kinds; raises UsageError where `model` has no such option or value."""
    known = {option.name: option for option in options}
    for name in settings:
        if name not in known:
            has = f"it has: {', '.join(known)}" if known else "it has none"
            raise UsageError(f"{name}: {model} has no such option", has)
    return {name: known[name].checked(value) for name, value in settings.items()}
