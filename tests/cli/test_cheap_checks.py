"""What is wrong and can be known for nothing is said before weights are loaded, hashed or fetched."""

import json

import pytest

from vidlatent.jobs import models

TOY = ["-m", "toy", "--device", "cpu"]


@pytest.fixture
def no_weights(monkeypatch):
    """Whoever loads a model fails the test."""

    def load(self, *_: object, **__: object) -> None:
        pytest.fail("a model was loaded, though that was for nothing")

    monkeypatch.setattr(models.ModelChoice, "load", load)
    monkeypatch.setattr("vidlatent.jobs.measure.bench_options.load_model", load)
    monkeypatch.setattr("vidlatent.jobs.measure.compat.load_model", load)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ("encode {gone} -o {new}.latent", 3, "gone.mp4: no such file"),
        ("encode {clip} -o {latent}", 2, "exists already"),
        ("encode {clip} -o {new}.mp4", 2, "what encode writes is no MP4"),
        ("encode {clip} -o {gone}/x.latent", 2, "cannot be written"),
        ("encode {latent} -o {new}.latent", 3, "holds latents already"),
        ("encode {gone} {gone}.mkv -o {new}/", 1, "gone.mp4.mkv: no such file"),
        ("encode {clip} -o {new}.latent --size 0x0", 2, "--size 0x0"),
        ("encode {clip} -o {new}.latent --fit foo", 2, "--fit foo"),
        ("encode {clip} -o {new}.latent --fit crop", 2, "--fit crop means nothing without a size"),
        ("encode {clip} -o {new}.latent --start 5 --end 3", 2, "--end 3: is not after --start 5"),
        ("encode {clip} -o {new}.latent --posterior foo", 2, "--posterior foo"),
        ("encode {clip} -o {new}.latent --store packed --pack", 2, "--pack: packs floats"),
        ("encode {clip} -o {new}.latent --max-drop 0.1dB", 2, "--max-drop: for --store packed"),
        ("encode {clip} -o {new}.latent --store packed --bpp 1 --step 1", 2, "one of them decides"),
        ("encode {clip} -o {new}.latent --window 6", 2, "--window 6: pocket takes windows of 1 + 4·k"),
        ("encode {clip} -o {new}.latent --tile 9", 2, "--tile 9: pocket takes multiples of 8 px"),
        ("encode {clip} -o {new}.latent --overlap 2 --tile 64", 2, "--overlap 2.0: must be a fraction"),
        ("encode {clip} -o {new}.latent --past 3", 2, "--past 3: pocket remembers as much"),
        ("encode {clip} -o {new}.latent --stream 1", 2, "no video stream 1"),
        ("decode {latent} -o {new}.mp4 --crf 99", 2, "--crf 99: libx264 takes 0 (best) to 51"),
        ("decode {latent} -o {new}.webm --crf 64", 2, "libvpx-vp9 takes 0 (best) to 63"),
        ("decode {latent} -o {new}.mkv --codec ffv1 --crf 5", 2, "ffv1 has no such scale"),
        ("decode {latent} -o {new}.mp4 --preset foo", 2, "--preset foo: libx264 has none of that name"),
        ("decode {latent} -o {new}.mp4 --codec foo", 2, "--codec foo: no such encoder"),
        ("decode {latent} -o {new}.mp4 --pix-fmt foo", 2, "--pix-fmt foo: libx264 does not take it"),
        ("decode {latent} -o {new}.mp4 --latent-window 1", 2, "--latent-window 1: toy takes"),
        ("decode {latent} -o {new}.mp4 -m wan-2.1", 2, "wan-2.1 has 16"),
        ("decode {latent} -o {new}.avi", 2, "cannot tell what to write"),
        ("decode {latent} -o {gone}/x.mp4", 2, "cannot be written"),
        ("decode {latent} -o {new}.mp4 --from 9", 2, "no frame between --start and --end"),
        ("decode {clip} -o {new}.mp4 --end -1", 3, "clip.y4m: not a .latent"),
        ("decode {latent} -o {new}.mp4 --max-memory 4", 2, "--max-memory 4: 4 of what?"),
        ("cache {gone} -o {new}", 2, "gone.mp4: no such file or folder"),
        ("repack {gone} --store int8", 2, "gone.mp4: no such cache, nor file"),
        ("cache {clip} -o {latent}", 2, "is no folder"),
        ("cache {clip} -o {new} --chunk 0", 2, "--chunk 0: must be above 0"),
        ("cache {clip} -o {new} --chunk -1", 2, "--chunk -1: must be above 0"),
        ("cache {clip} -o {new} --size 99999x2", 2, "--size 99999x2"),
        ("cache {clip} -o {new} --window 6", 2, "--window 6: pocket takes"),
        ("cache {clip} -o {new} --bucket 833x480", 2, "the model takes sides in steps of 8"),
        ("cache {clip} -o {clip.parent}", 2, "holds other things"),
        ("bench {clip} -m pocket -m nosuch", 2, "nosuch: no such model"),
        ("bench {clip} --past 3", 2, "--past 3: pocket remembers as much"),
        ("bench {clip} --latent-dtype foo", 2, "--latent-dtype foo: unknown"),
        ("bench {gone}", 3, "gone.mp4: no such file"),
        ("bench {clip} --report {gone}/r.json", 2, "cannot be written"),
        ("bench {clip} --metrics ,", 2, "--metrics"),
        ("compat {gone} --video-vae cv-vae-sd2.1 --image-vae sd-vae-1.5", 3, "gone.mp4: no such file"),
        ("compat {clip} --video-vae cv-vae-sd2.1 --image-vae pocket", 2, "is no image model"),
        ("compat {clip} --video-vae a --image-vae b --picture {gone}/p.png", 2, "cannot be written"),
    ],
)
def test_what_cannot_work_is_said_before_a_model_is_loaded(vidlatent, little, words, code, complaint):
    run = vidlatent(*words.format(**little).split())
    assert run.code == code, run.err
    assert complaint in run.err and "Traceback" not in run.err


def test_a_name_that_no_file_can_have_is_blamed_and_spares_the_others(vidlatent, little_clip, tmp_path):
    """It was said to be the disk that fails, with exit code 5, and the other inputs were not looked at."""
    name = "a" * 300
    vidlatent("inspect", name).failed(2, f"{name}: File name too long", "check this path")
    run = vidlatent("encode", name, little_clip, "-o", f"{tmp_path}/out/", *TOY, "--json")
    run.failed(1, "File name too long")
    assert [made["source"] for made in json.loads(run.out)] == [str(little_clip)]


def test_a_missing_input_among_several_spares_the_others(vidlatent, little_clip, tmp_path):
    run = vidlatent("encode", tmp_path / "gone.mp4", little_clip, "-o", f"{tmp_path}/out/", *TOY, "--json")
    run.failed(1, "gone.mp4: no such file")
    assert [made["source"] for made in json.loads(run.out)] == [str(little_clip)]


def test_what_is_there_can_be_skipped(vidlatent, little_clip, little_latent, tmp_path):
    words = ["encode", little_clip, "-o", little_latent, *TOY, "--skip-existing", "--json"]
    run = vidlatent(*words)
    assert (run.code, run.out) == (0, "[]\n") and "is there already" in run.err


def test_a_folder_of_videos_is_told_from_one_of_images(vidlatent, tmp_path):
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.mp4").write_bytes(b"film")
    run = vidlatent("encode", tmp_path / "films", "-o", tmp_path / "x.latent", *TOY)
    run.failed(3, "a folder of videos (a.mp4)", "vidlatent cache")


def test_a_film_is_no_latents_and_the_way_is_told(vidlatent, sample, tmp_path):
    run = vidlatent("decode", sample, "-o", tmp_path / "x.mp4")
    run.failed(3, "is a video, and holds no latents", "encode it first")


def test_quiet_commands_say_errors_alone(vidlatent, little_clip, tmp_path):
    run = vidlatent("encode", little_clip, "-o", tmp_path / "x.latent", *TOY, "-q")
    assert (run.code, run.out, run.err) == (0, "", "")
    vidlatent("encode", little_clip, "-o", tmp_path / "x.latent", *TOY, "-q").failed(2, "exists already")


def test_verbose_commands_show_where_an_error_was_found(vidlatent, tmp_path):
    run = vidlatent("inspect", tmp_path / "gone.mp4", "-v")
    assert run.code == 3 and "jobs/inspect.py" in run.err
