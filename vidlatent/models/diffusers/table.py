"""The classes of diffusers that are driven here, by name."""

from vidlatent.models.diffusers import allegro, cosmos, kvae, magvit, minimax_h3, mochi, svd, vidtok
from vidlatent.models.diffusers.row import Config, Row

ROWS = {
    "AutoencoderKLMagvit": magvit.ROW,
    "AutoencoderKLKVAEVideo": kvae.ROW,
    "AutoencoderVidTok": vidtok.ROW,
    "AutoencoderKLMochi": mochi.ROW,
    "AutoencoderKLCosmos": cosmos.ROW,
    "AutoencoderKLTemporalDecoder": svd.ROW,
    "AutoencoderKLAllegro": allegro.ROW,
    "AutoencoderKLMiniMaxH3": minimax_h3.ROW,
}


def row_of(config: Config) -> Row:
    """The row of the class that a config names."""
    return ROWS[str(config["_class_name"])]
