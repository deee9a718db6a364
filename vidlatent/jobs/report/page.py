"""What all pages have in common: the head, the style, and the promise that nothing is fetched."""

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from importlib.resources import files


@cache
def read_part(name: str) -> str:
    """A style sheet or script that lies beside this file."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def open_page(title: str, style: str, scripts: Sequence[str] = ()) -> str:
    """All of a page up to its first heading.

    Its policy lets the browser load what the page itself holds, run the `scripts` that it ends with, and
    nothing else: a name in a report cannot become code.
    """
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_state_policy(scripts)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{style}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
        ]
    )


def close_page(scripts: Iterable[str] = ()) -> str:
    """The end of a page, with its scripts."""
    return "".join(f"<script>{script}</script>\n" for script in scripts) + "</body></html>\n"


def make_inline(script: str) -> str:
    """A script as it may stand inside a page: no text in it ends the element that it is in."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _state_policy(scripts: Sequence[str]) -> str:
    hashes = [b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "media-src data:; base-uri 'none'; form-action 'none'"
    )


def embed(kind: str, content: bytes) -> str:
    """Bytes of a media type as an address that holds them itself."""
    return f"data:{kind};base64,{b64encode(content).decode()}"
