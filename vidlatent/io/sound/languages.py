"""Languages as containers spell them.

Matroska takes any word, MP4 three letters. QuickTime numbers languages, so .mov can hold those on its list
only. libav knows each of them by one spelling, which is not always that of ISO 639-2/T.
"""

import re

_RESPELT = {
    "fre": "fra", "deu": "ger", "nld": "dut", "swe": "sve", "ell": "gre", "isl": "ice", "zho": "chi",
    "fas": "per", "gle": "iri", "sqi": "alb", "rum": "ron", "cze": "ces", "slo": "slk", "mkd": "mac",
    "hye": "arm", "kat": "geo", "bod": "tib", "mya": "bur", "msa": "may", "cym": "wel", "eus": "baq",
}  # fmt: skip
_QUICKTIME = (
    "eng fra ger ita dut sve spa dan por nor heb jpn ara fin gre ice mlt tur chi urd hin tha kor lit pol hun "
    "est lav per rus iri alb ron ces slk slv yid mac bul ukr bel uzb kaz aze arm geo kir tgk tuk mon pus kur "
    "kas snd tib nep san mar ben asm guj ori mal kan tam tel sin bur khm lao vie ind may tgl amh tir orm som "
    "swa kin mlg epo wel baq cat lat que grn aym tat uig jav"
)


def spell_language(language: str, container: str) -> str | None:
    """`language` as the muxer `container` (libav's name) takes it; None where it cannot hold it."""
    if container == "mov":
        known = _RESPELT.get(language, language)
        return known if known in _QUICKTIME.split() else None
    if container == "mp4":
        return language if re.fullmatch("[a-z]{3}", language) else None
    return language
