"""Groups of flags: each is one class, and one section of a command's help."""

from collections.abc import Callable, Mapping
from copy import copy
from functools import wraps
from inspect import Parameter, Signature, get_annotations, signature
from typing import Annotated, Any, ClassVar, get_args

import typer
from typer.core import TyperCommand

from vidlatent.cli import console


class Flags:
    """A group of flags.

    Its attributes are written as the parameters of a Typer command are, and `heading` is what stands above
    them in the help. A command that has a parameter `read: ReadFlags` is called with one ReadFlags, whose
    attributes are what the user said.
    """

    # Dataclasses would do the same, but making all of them would slow every start by 20 ms.
    heading = "Options"

    def __init__(self, **said: Any) -> None:
        vars(self).update(said)

    @classmethod
    def parameters(cls) -> list[Parameter]:
        """Return the flags as parameters that Typer understands, those of base classes first."""
        found: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            found |= get_annotations(base)
        return [cls._parameter(name, *get_args(annotation)) for name, annotation in found.items()]

    @classmethod
    def _parameter(cls, name: str, kind: Any, option: Any) -> Parameter:
        option = copy(option)
        option.rich_help_panel = cls.heading
        default = getattr(cls, name, Parameter.empty)
        return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


class Talk(Flags):
    """How much a command says; every command has these flags."""

    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors: no progress, no notes.")
    ] = False
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also show where in the code an error was found.")
    ] = False


class App(typer.Typer):
    """A Typer application whose commands may take groups of flags."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, **settings
        )

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Callable], Callable]:
        """Register a function as a command, as Typer does; the function itself stays as it is."""
        register = super().command(name, **{"cls": SectionedCommand, **settings})

        def add(function: Callable) -> Callable:
            register(flatten(function))
            return function

        return add


class SectionedCommand(TyperCommand):
    """A command whose help shows its flags in sections, as plain text.

    Typer has the same with rich, which takes 0.15 s longer to load and draws boxes into pipes.
    """

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:
        """Write each section under its heading, in the order of the command's parameters."""
        sections: dict[str, list[Any]] = {}
        for param in self.get_params(ctx):
            heading = "Arguments" if param.param_type_name == "argument" else "Options"
            panel = getattr(param, "rich_help_panel", None)  # --help has none in older versions of Typer
            sections.setdefault(panel or heading, []).append(param)
        for heading, params in sections.items():
            params.sort(key=lambda param: not param.required)  # what must be given stands first
            with formatter.section(heading):
                formatter.write_dl([param.get_help_record(ctx) for param in params])

    renamed: ClassVar[Mapping[str, str]] = {}  # flags by the names that they had before

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Read the words of the command, flags of former names included."""
        return super().parse_args(ctx, [self._rename(word) for word in args])

    def _rename(self, word: str) -> str:
        flag, equals, value = word.partition("=")
        return self.renamed.get(flag, flag) + equals + value

    def invoke(self, ctx: typer.Context) -> Any:
        """Run the command. Errors that it raises are then told with its own flags."""
        console.own_flags.set({param.name: param.opts[0] for param in self.params})
        return super().invoke(ctx)


def flatten(command: Callable[..., int]) -> Callable[..., int]:
    """Make the function that Typer wants: with a parameter for every flag, not for every group."""
    given = signature(command).parameters.values()
    groups = {param.name: param.annotation for param in given if isinstance(param.annotation, type)}
    flags = {name: group.parameters() for name, group in groups.items() if issubclass(group, Flags)}

    @wraps(command)
    def flat(**said: Any) -> int:
        console.talk.set((said.pop("quiet"), said.pop("verbose")))
        made = {
            name: groups[name](**{flag.name: said.pop(flag.name) for flag in own})
            for name, own in flags.items()
        }
        return command(**said, **made)

    own = [
        parameter
        for param in given
        for parameter in flags.get(param.name, [param.replace(kind=Parameter.KEYWORD_ONLY)])
    ]
    flat.__signature__ = Signature([*own, *Talk.parameters()])
    return flat
