import numpy as np

from vidlatent.jobs.measure.pictures import STRIP_FRAMES, WORST, KeptPictures, to_eight_bits


def grey(level: int, dtype=np.uint8) -> np.ndarray:
    return np.full((4, 6, 3), level, dtype)


def test_the_worst_frames_come_worst_first():
    pictures = KeptPictures()
    for error in (1, 9, 3, 7, 2):
        pictures.update(grey(100), grey(100 + error))
    assert [frame.index for frame in pictures.worst()] == [1, 3, 2]
    assert len(pictures.worst()) == WORST
    assert pictures.error == 81


def test_the_difference_is_amplified_around_grey():
    pictures = KeptPictures()
    pictures.update(grey(100), grey(102))
    (worst,) = pictures.worst()
    assert (worst.difference == 128 + 8 * 2).all()


def test_the_strip_of_a_long_clip_is_thinned_evenly():
    pictures = KeptPictures()
    for n in range(3 * STRIP_FRAMES):
        pictures.update(grey(n % 251), grey(n % 251))
    reference, distorted = pictures.strip()
    assert reference.shape[1] < STRIP_FRAMES
    assert np.array_equal(reference, distorted)
    steps = np.diff(reference[0, :20, 0].astype(int)) % 251
    assert len(set(steps)) == 1


def test_deep_frames_are_rounded_for_the_eye():
    assert to_eight_bits(grey(65535, np.uint16)).max() == 255
    assert to_eight_bits(grey(257 * 7 + 128, np.uint16)).max() == 7
    assert to_eight_bits(grey(257 * 7 + 129, np.uint16)).max() == 8


def test_pictures_come_back_from_their_file_with_times_and_film(tmp_path):
    pictures = KeptPictures()
    pictures.update(grey(100), grey(103), 0.25)
    pictures.update(grey(100), grey(101))
    pictures.film = b"a film"
    pictures.save(tmp_path / "kept" / "row.npz")
    again = KeptPictures.load(tmp_path / "kept" / "row.npz")
    assert [(frame.error, frame.time_s) for frame in again.worst()] == [(9.0, 0.25), (1.0, None)]
    assert again.film == b"a film"


def test_pictures_of_an_older_bench_are_still_shown(tmp_path):
    """Those had neither times nor a film."""
    pictures = KeptPictures()
    pictures.update(grey(100), grey(103), 0.25)
    pictures.save(tmp_path / "row.npz")
    with np.load(tmp_path / "row.npz") as kept:
        older = {name: kept[name] for name in kept if name not in ("time_s", "film")}
    np.savez_compressed(tmp_path / "older.npz", **older)
    again = KeptPictures.load(tmp_path / "older.npz")
    assert [frame.time_s for frame in again.worst()] == [None] and again.film == b""
