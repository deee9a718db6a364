# What type checkers and editors read in place of __init__.py, which imports each name when it is first used.
# tests/test_types.py holds that both have the same names.
from vidlatent.engine.as_diffusers import as_diffusers as as_diffusers
from vidlatent.engine.load import load_model as load_model
from vidlatent.engine.model import Model as Model
from vidlatent.engine.plan import PlanWishes as PlanWishes
from vidlatent.errors import VidlatentError as VidlatentError
from vidlatent.io.latent.reader import LatentReader as LatentReader
from vidlatent.io.latent.reader import open_latent as open_latent
from vidlatent.io.read.source import Frame as Frame
from vidlatent.io.read.source import ReadOptions as ReadOptions
from vidlatent.io.read.source import VideoInfo as VideoInfo
from vidlatent.io.write.sink import SinkOptions as SinkOptions
from vidlatent.jobs.decode import DecodeOptions as DecodeOptions
from vidlatent.jobs.decode import DecodeResult as DecodeResult
from vidlatent.jobs.decode import decode as decode
from vidlatent.jobs.encode import EncodeOptions as EncodeOptions
from vidlatent.jobs.encode import EncodeResult as EncodeResult
from vidlatent.jobs.encode import encode as encode
from vidlatent.jobs.models import ModelChoice as ModelChoice
from vidlatent.jobs.readback.buckets import BucketSampler as BucketSampler
from vidlatent.jobs.readback.dataset import LatentDataset as LatentDataset
from vidlatent.jobs.readback.dataset import Sample as Sample
from vidlatent.jobs.readback.stream import LatentStream as LatentStream
from vidlatent.jobs.save import load_latents as load_latents
from vidlatent.jobs.save import save_latents as save_latents
from vidlatent.jobs.video import Video as Video
from vidlatent.jobs.video import open_video as open_video
from vidlatent.models.base import Posterior as Posterior
from vidlatent.windows import Plan as Plan

__version__: str
