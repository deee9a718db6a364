"""What the latents of a file show: facts about the picture in its header, checked before they are used."""

from vidlatent.errors import BadLatentFile
from vidlatent.io.latent.reader import LatentReader
from vidlatent.io.picture.info import Picture


def read_picture(source: LatentReader) -> Picture:
    """The picture of a `.latent`; raises BadLatentFile where its header says nothing of it."""
    try:
        return Picture.from_json(source.header.picture)
    except ValueError as e:
        raise BadLatentFile(
            f"{source.path}: {e}", "this header was not written by vidlatent: encode again"
        ) from e
