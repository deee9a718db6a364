"""What is known of published weights before they are fetched: a commit, and hashes of its files.

A commit fixes what is asked for, a sha256 what is accepted. Where a hash stands here the hub need not be
trusted. Where it is None nobody could look it up when this was written: then the first download is believed
if it is what the hub itself promised, and recorded; see `hub.py`. `vidlatent models list` and `models pull`
say which it is. The hashes were taken from public records of these commits that agree with each other.
"""

from dataclasses import dataclass

from vidlatent.models.base import Hub


@dataclass(frozen=True)
class Known:
    """The commit of a repository, and the sha256 of the model's files in it, as far as they are known."""

    revision: str
    weights: str | None = None
    config: str | None = None
    bytes: int | None = None  # of the weights


KNOWN = {
    "stabilityai/sd-vae-ft-mse": Known(
        "31f26fdeee1355a5c34592e401dd41e45d25a493",
        "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815",
        "92d3dfb746fca211a2c9e019e285f8597412211728dce3c5bcf4eda0f2d62e7e",
        334_643_276,
    ),
    "stabilityai/sdxl-vae": Known(
        "6f5909a7e596173e25d4e97b07fd19cdf9611c76",
        "1598f3d24932bcfe6634e8b618ea1e30ab1d57f5aad13a6d2de446d2199f2341",
    ),
    "black-forest-labs/FLUX.1-schnell": Known(
        "741f7c3ce8b383c54771c7003378a50191e9efe9",
        "f5b59a26851551b67ae1fe58d32e76486e1e812def4696a4bea97f16604d40a3",
        bytes=167_666_902,
    ),
    "stabilityai/stable-diffusion-3-medium-diffusers": Known("ea42f8cef0f178587cf766dc8129abd379c90671"),
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": Known(
        "0fad780a534b6463e45facd96134c9f345acfa5b",
        "d6e524b3fffede1787a74e81b30976dce5400c4439ba64222168e607ed19e793",
        "f0c1cc1d7decb5badc384f54691746a27a9aeff49f7ebca974e583389342d527",
        507_591_892,
    ),
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": Known(
        "b8fff7315c768468a5333511427288870b2e9635",
        "62cd18f19438e35b32ac63020e2852f566e9b02f46b6cdbd87972a356e3c6f4b",
        "d996c340fe9a7df5d7371f76a7d8d6956f6c98256080074d8434fa5eeac11360",
        2_818_777_808,
    ),
    "Qwen/Qwen-Image": Known(
        "75e0b4be04f60ec59a75f475837eced720f823b6",
        "0c8bc8b758c649abef9ea407b95408389a3b2f610d0d10fcb054fe171d0a8344",
        bytes=253_806_966,
    ),
    "hunyuanvideo-community/HunyuanVideo": Known("e8c2aaa66fe3742a32c11a6766aecbf07c56e773"),
    "tencent/HunyuanVideo-1.5": Known("9b49404b3f5df2a8f0b31df27a0c7ab872e7b038"),
    "zai-org/CogVideoX-2b": Known(
        "1137dacfc2c9c012bed6a0793f4ecf2ca8e7ba01",
        "a410e48d988c8224cef392b68db0654485cfd41f345f4a3a81d3e6b765bb995e",
        bytes=862_388_596,
    ),
    "zai-org/CogVideoX-5b": Known("8d6ea3f817438460b25595a120f109b88d5fdfad"),
    "zai-org/CogVideoX1.5-5B": Known("fdc5267c90b5c06492985b966e43aae984e189e0"),
    "Lightricks/LTX-Video": Known(
        "8984fa25007f376c1a299016d0957a37a2f797bb",
        "265ca87cb5dff5e37f924286e957324e282fe7710a952a7dafc0df43883e2010",
        bytes=1_676_798_532,
    ),
    "Lightricks/LTX-Video-0.9.5": Known("e58e28c39631af4d1468ee57a853764e11c1d37e"),
    "Lightricks/LTX-Video-0.9.7-dev": Known("2101082f5eb5540770a2df43747feadb6f69b889"),
    "Lightricks/LTX-2": Known("47da56e2ad66ce4125a9922b4a8826bf407f9d0a"),
    "diffusers/LTX-2.3-Diffusers": Known("8eee8edcf067e838b843f926ec4d4cc9b2be1aaf"),
}


def hub_of(repo: str, file: str, config: str | None = None) -> Hub:
    """Where the weights of a model are published, with all that is known here of its files.

    Each repository holds the weights of one model of ours, or nothing is known of it: `KNOWN` has its name.
    """
    known = KNOWN.get(repo)
    if known is None:
        return Hub(repo, file, config)
    return Hub(repo, file, config, known.revision, known.weights, known.bytes, known.config)
