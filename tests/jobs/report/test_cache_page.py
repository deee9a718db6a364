"""A cache as a page: everything in it counted, nothing fetched, and nothing of a name or a caption run."""

import os
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from helpers import cache_clips as clips

from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.cache.summary import choose_evenly, summarise
from vidlatent.jobs.report.cache_page import BARS, make_page, write_page


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Five clips of three lengths, one with a caption that is markup, a file that is no video, a note."""
    folder = tmp_path_factory.mktemp("page")
    clips.write_clips(folder / "videos", 4)
    clips.write_clip(folder / "videos/b/long.avi", 7, frames=14, size=(48, 32))
    (folder / "videos/clip0.txt").write_text("<script>alert(1)</script> a cat")
    (folder / "videos/broken.mp4").write_text("no video")
    clips.cache(folder / "videos", folder / "cache", replace(clips.ONE, thumbnails=2))
    return folder / "cache"


def test_a_recipe_that_the_cache_does_not_know_is_refused(root):
    """Its page was empty."""
    with pytest.raises(UsageError, match="has nothing of recipe foo"):
        summarise(root, "foo")


def test_a_summary_counts_what_is_there(root):
    found = summarise(root)
    assert found.states == {"done": 5, "failed": 1, "no video": 1} and found.captioned == 1
    assert [state for state, _ in found.problems] == ["failed"], "a caption is nothing that is missing"
    assert found.entries == 5 and found.frames == 5 + 9 + 13 + 5 + 13
    assert found.spreads["Length in frames"] == {"5": 2, "9": 1, "13": 2}
    assert found.spreads["Size in pixels"] == {"32x32": 4, "48x32": 1}
    values = 768 * (4 * 4 * (2 + 3 + 4 + 2) + 4 * 6 * 4)
    assert found.sizes == {"fp32": 4 * values, "fp16": 2 * values, "bf16": 2 * values}
    assert found.stored == ("fp32",)
    assert [card.name for card in found.cards] == ["b/long.avi", *(f"clip{n}.avi" for n in range(4))]
    assert all(card.strip is not None for card in found.cards)


class Page(HTMLParser):
    """Every tag, where it points, and every text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.links, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_says_it_all_and_fetches_nothing(root):
    page = Page(make_page(summarise(root)))
    words = " ".join(page.words)
    assert "script" not in page.tags and "<script>alert(1)</script> a cat" in words
    assert page.tags.count("img") == 5 and all(
        link.startswith("data:image/jpeg;base64,") for link in page.links
    )
    assert not re.search(r"url\(|@import", words)
    for said in (
        "5 done, 1 failed, 1 no video",
        "broken.mp4: not a video",
        "as they are stored",
        "48x32",
        "13 frames",
    ):
        assert said in words


def test_a_page_of_a_cache_without_thumbnails_says_how_to_have_some(tmp_path):
    clips.cache(clips.write_clips(tmp_path / "videos", 1), tmp_path / "cache")
    text = make_page(summarise(tmp_path / "cache"))
    assert "cache --thumbnails N" in text and "<img" not in text


def test_an_empty_cache_has_a_page_too(tmp_path):
    (tmp_path / "videos").mkdir()
    clips.cache(tmp_path / "videos", tmp_path / "cache")
    assert "nothing yet" in make_page(summarise(tmp_path / "cache"))


def test_a_clip_whose_name_is_no_utf8_is_on_the_page(tmp_path):
    clips.write_clip(tmp_path / "videos" / os.fsdecode(b"bad\xff.avi"), 1)
    clips.cache(tmp_path / "videos", tmp_path / "cache")
    write_page(summarise(tmp_path / "cache"), tmp_path / "page.html")
    assert "bad\\udcff.avi" in (tmp_path / "page.html").read_text()


def test_many_kinds_are_summed_up(root):
    found = summarise(root)
    lengths = {str(n): 1 for n in range(BARS + 5)}
    many = replace(found, spreads={**found.spreads, "Length in frames": lengths})
    assert "5 more" in make_page(many)


def test_of_many_clips_some_are_shown_from_all_over():
    assert choose_evenly(list(range(100)), 4) == [0, 25, 50, 75]
    assert choose_evenly([1, 2], 4) == [1, 2]


def test_a_page_replaces_nothing_unasked(root, tmp_path):
    path = tmp_path / "report.html"
    write_page(summarise(root), path)
    with pytest.raises(UsageError, match="exists already"):
        write_page(summarise(root), path)
    write_page(summarise(root), path, force=True)
    path.write_text("a thesis")
    with pytest.raises(UsageError, match="is not the page of a cache, and force replaces nothing else"):
        write_page(summarise(root), path, force=True)
    with pytest.raises(BadInput, match="not a latent cache"):
        summarise(tmp_path)
