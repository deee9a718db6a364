"""What the latents of a file show: facts about the picture in its header, checked before they are used."""

from vidlatent.errors import BadLatentFile
from vidlatent.io.latent.reader import LatentReader
from vidlatent.io.picture.info import Picture


def read_picture(source: LatentReader) -> Picture:
    """The picture of a `.latent`; raises BadLatentFile where its facts cannot be, or contradict others."""
    try:
        picture = Picture.from_json(source.header.picture)
        told, clip = (
            (picture.width, picture.height),
            (source.header.source.width, source.header.source.height),
        )
        if told != clip:
            raise ValueError("picture of {}x{}, latents of {}x{}".format(*told, *clip))
    except ValueError as e:
        raise BadLatentFile(
            f"{source.path}: {e}", "this header was not written by vidlatent: encode again"
        ) from e
    return picture
