import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vidlatent.engine import memory
from vidlatent.engine.demand import Workload
from vidlatent.engine.load import load_model
from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.measure import packed
from vidlatent.jobs.measure.bench import _Run, bench
from vidlatent.jobs.measure.bench_options import BenchOptions, list_clips, load_subjects
from vidlatent.jobs.measure.document import report_to_json, row_from_json, row_to_json
from vidlatent.jobs.measure.results import summarise
from vidlatent.jobs.measure.roundtrip import RoundtripPass, Subject, roundtrip
from vidlatent.metrics.psnr import Psnr


def options(**more) -> BenchOptions:
    return BenchOptions(**{"metrics": ("psnr",), "runs": 1, **more})


@pytest.mark.parametrize("frames", [1, 2, 9, 18])
def test_a_roundtrip_pairs_every_frame_with_its_own(toy, moving_clip, frames):
    clip, done = moving_clip(frames, 20, 28), RoundtripPass()
    pairs = list(roundtrip(toy, iter(clip), done))
    assert np.array_equal(np.stack([source for source, _ in pairs]), clip)
    assert np.array_equal(np.stack([back for _, back in pairs]), clip)
    assert (done.frames, done.latents) == (frames, 1 + (frames + 2) // 4)
    assert not done.held


def test_a_roundtrip_holds_a_window_of_the_clip_whatever_its_length(toy, moving_clip):
    clip, done = moving_clip(200, 16, 16), RoundtripPass()
    most = max(len(done.held) for _ in roundtrip(toy, iter(clip), done))
    assert most <= 2 * toy.plan.encode_time.longest


def test_latent_bits_count_what_is_kept(toy, moving_clip):
    done = RoundtripPass()
    list(roundtrip(replace(toy, store="fp16"), iter(moving_clip(5, 16, 24)), done))
    assert done.bits == 2 * 768 * 2 * 3 * 16


def test_truncation_is_half_a_level_darker_than_rounding(toy, moving_clip):
    """What the papers' scripts lose by casting floats to uint8."""
    clip = moving_clip(1)
    halves = replace(toy, store="fp16")
    rounded = next(back for _, back in roundtrip(halves, iter(clip), RoundtripPass()))
    cut = next(back for _, back in roundtrip(replace(halves, truncate=True), iter(clip), RoundtripPass()))
    gap = rounded.astype(int) - cut
    assert set(np.unique(gap)) == {0, 1}
    assert gap.mean() == pytest.approx(0.5, abs=0.2)


def test_a_model_that_loses_nothing_scores_infinity(toy, as_clip, moving_clip):
    report = bench([as_clip("a", moving_clip(9))], [toy], options(metrics=("psnr", "ssim", "lpips")))
    (row,) = report.rows
    assert {name: score.mean for name, score in row.scores.items()} == {
        "psnr": math.inf,
        "ssim": 1.0,
        "lpips": 0.0,
    }
    assert row.bits_per_pixel == pytest.approx(3 * 768 * 16 * 32 / (9 * 32 * 32))
    assert row.speed.encode_s > 0 and row.speed.decode_s > 0
    assert row.peak_host_bytes > 1e7


def test_metrics_are_taken_once_however_many_runs(toy, as_clip, moving_clip):
    (row,) = bench([as_clip("a", moving_clip(6))], [toy], options(runs=3)).rows
    assert row.frames == 6 and row.speed.runs == 3
    assert len(row.scores["psnr"].per_frame) == 6


def test_a_model_keeps_within_the_memory_that_it_is_allowed(toy, as_clip, moving_clip, monkeypatch):
    monkeypatch.setattr(memory, "fixed_bytes", lambda model: 0)
    monkeypatch.setattr(memory, "QUEUES_BYTES", 0)
    clip, ways = as_clip("a", moving_clip(17)), (Workload(32, 32, 17), Workload(32, 32, 17, encode=False))
    need = int(max(memory.needed_bytes(toy.model, toy.plan, way) for way in ways))
    enough, less, little = (
        bench([clip], [toy], options(max_memory=limit)).rows[0] for limit in (2 * need, 2 * need - 2, 2)
    )
    assert not enough.notices and not enough.error
    assert any("to keep within" in notice for notice in less.notices) and not less.error
    assert "does not fit" in little.error


def test_rows_are_counted_by_the_rates_that_models_turn_out_to_have(toy, monkeypatch):
    """The last of eleven was said to be row 11 of 9."""
    begun, rates = [], {"a": 3.0, "b": 0.5}

    def measured(self, blank, clip, work):
        return replace(blank, bits_per_pixel=rates.get(blank.subject, 1.0))

    monkeypatch.setattr(_Run, "_measure", measured)
    progress = SimpleNamespace(begin=lambda what, total: begun.append(what.partition(":")[0]))
    subjects = [replace(toy, name=name) for name in rates]
    bench(["1.mp4", "2.mp4"], subjects, options(codecs=("x264",)), progress=progress)
    count = len(begun)
    assert begun[2:] == [f"{n} of {count}" for n in range(3, count + 1)]


def test_a_clip_that_fails_is_a_row_and_the_others_go_on(toy, as_clip, moving_clip, tmp_path):
    report = bench([tmp_path / "gone.mp4", as_clip("a", moving_clip(3))], [toy], options(codecs=("ffv1",)))
    errors = [row.error for row in report.rows]
    assert [bool(error) for error in errors] == [True, True, False, False]
    assert "gone.mp4: no such file" in errors[0]
    assert [(line.subject, line.clips, line.failed) for line in summarise(report)] == [
        ("toy", 1, 1),
        ("ffv1", 1, 1),
    ]


def test_a_lossless_codec_scores_infinity(toy, as_clip, moving_clip):
    report = bench([as_clip("a", moving_clip(3))], [toy], options(codecs=("ffv1",)))
    assert report.rows[1].scores["psnr"].mean == math.inf


def test_codecs_aim_at_the_rates_and_have_bd_rates(toy, as_clip, moving_clip):
    noise = np.random.default_rng(0).integers(-20, 20, (8, 64, 96, 3))
    frames = np.clip(moving_clip(8, 64, 96) + noise, 0, 255).astype(np.uint8)
    asked = options(codecs=("x264", "x265"), rates=(0.5, 2.0, "equal"))
    report = bench([as_clip("a", frames)], [replace(toy, store="fp16")], asked)
    rates = {row.subject: row.bits_per_pixel for row in report.rows}
    assert rates["x264 2 bpp"] == pytest.approx(2.0, rel=0.1)
    assert {"x264 as toy", "x265 as toy"} <= set(rates)
    (delta,) = [d for d in report.deltas if d.subject == "x265"]
    assert delta.baseline == "x264" and math.isfinite(delta.rate_percent)
    (apart,) = [d for d in report.deltas if d.subject == "toy"]
    assert apart.rate_percent is None and apart.why == (
        "toy loses nothing, and no rate of a lossy codec is equal to that"
    )
    assert {row.family for row in report.rows if row.kind == "codec"} == {"x264", "x265"}
    (missed,) = [row for row in report.rows if row.subject == "x264 as toy"]
    assert "72 were wanted" in missed.notices[-1] and "crf 1 (its finest quality)" in missed.notices[-1]
    assert missed.coding.wanted == 72 and missed.coding.crf == 1


def test_by_default_every_model_is_compared_with_every_codec(as_clip, moving_clip):
    """The rates reach from the model's down to where the codec is worse: nothing says "no overlap"."""
    model = load_model("pocket", device="cpu")
    noise = np.random.default_rng(0).integers(-20, 20, (5, 48, 48, 3))
    frames = np.clip(moving_clip(5, 48, 48) + noise, 0, 255).astype(np.uint8)
    subject = Subject("pocket", model, "fp16", model.spec.plan)
    report = bench([as_clip("a", frames)], [subject], options(codecs=("x264",)))
    (delta,) = report.deltas
    assert delta.rate_percent is not None and delta.quality is not None
    assert {row.stored for row in report.rows} == {"fp16", None}


def test_a_bench_gives_the_same_metrics_twice(as_clip, moving_clip):
    model = load_model("pocket", device="cpu")
    subject = Subject("pocket", model, "fp32", model.spec.plan)
    clip = as_clip("a", moving_clip(9))
    asked = options(metrics=("psnr", "ssim", "lpips", "flicker"))
    first, second = (bench([clip], [subject], asked).rows[0].scores for _ in range(2))
    assert first == second


def test_a_bench_that_was_stopped_goes_on_where_it_was(toy, as_clip, moving_clip, tmp_path, monkeypatch):
    journal, clips = tmp_path / "rows.jsonl", [as_clip("a", moving_clip(3)), as_clip("b", moving_clip(4))]
    whole = bench(clips, [toy], options(), resume=journal)
    with journal.open("r+") as file:  # as a kill in the middle of the second row leaves it
        file.truncate(journal.stat().st_size - 20)
    measured = []
    monkeypatch.setattr(Psnr, "result", counting(Psnr.result, measured))
    again = bench(clips, [toy], options(), resume=journal)
    assert len(measured) == 1
    assert [row.scores for row in again.rows] == [row.scores for row in whole.rows]
    assert len(journal.read_text().splitlines()) == 2


def counting(function, calls: list):
    def counted(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return counted


def test_a_resumed_bench_shows_the_same_pictures(toy, as_clip, moving_clip, tmp_path):
    halves, journal = replace(toy, store="fp16"), tmp_path / "rows.jsonl"
    clips = [as_clip(name, moving_clip(n, 40, 24)) for name, n in (("a", 3), ("b", 9), ("c", 2))]
    asked = options(pictures=2)
    first = bench(clips, [halves], asked, resume=journal)
    again = bench(clips, [halves], asked, resume=journal)
    assert sum(row.pictures is not None for row in again.rows) == 2
    assert pictures(again) == pictures(first)
    assert len(list(tmp_path.glob("rows.jsonl.pictures/*.npz"))) == 2  # of those that are shown


def test_pictures_that_are_none_are_named(toy, as_clip, moving_clip, tmp_path):
    journal, clip = tmp_path / "rows.jsonl", as_clip("a", moving_clip(3))
    bench([clip], [toy], options(pictures=1), resume=journal)
    (kept,) = tmp_path.glob("rows.jsonl.pictures/*")
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(BadInput, match="no pictures of a bench"):
        bench([clip], [toy], options(pictures=1), resume=journal)


def pictures(report) -> list[tuple[str, bytes]]:
    """All that a page shows of every row's frames."""
    kept = [(row.subject, row.pictures) for row in report.rows if row.pictures]
    return [
        (name, pixels.tobytes())
        for name, pictures in kept
        for pixels in (*(p for w in pictures.worst() for p in (w.reference, w.difference)), *pictures.strip())
    ]


def test_a_journal_of_other_settings_is_not_believed(toy, as_clip, moving_clip, tmp_path):
    journal, clip = tmp_path / "rows.jsonl", as_clip("a", moving_clip(3))
    bench([clip], [toy], options(), resume=journal)
    report = bench([clip], [toy], options(frames=2), resume=journal)
    assert report.rows[0].frames == 2


def test_rows_survive_json(toy, as_clip, moving_clip):
    (row,) = bench([as_clip("a", moving_clip(3))], [toy], options(metrics=("psnr", "flicker"))).rows
    assert row_from_json(json.loads(json.dumps(row_to_json(row), allow_nan=False))) == row


def test_fvd_is_one_number_over_all_clips(toy, as_clip, moving_clip, tmp_path):
    torch = pytest.importorskip("torch")

    class Features(torch.nn.Module):
        def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool):
            return x.mean(dim=[2, 3, 4])

    torch.jit.script(Features()).save(tmp_path / "i3d.pt")
    clips = [as_clip("a", moving_clip(16)), as_clip("b", moving_clip(17))]
    report = bench(clips, [toy], options(metrics=("psnr", "fvd"), files={"fvd": tmp_path / "i3d.pt"}))
    assert "fvd" not in report.rows[0].scores
    assert report.overall["toy"]["fvd"].values["windows"] == 2
    assert summarise(report)[0].means["fvd"] == pytest.approx(0, abs=1e-6)
    assert report_to_json(report)["summary"][0]["means"]["fvd"] == pytest.approx(0, abs=1e-6)


def test_fvd_cannot_be_resumed(toy, tmp_path):
    (tmp_path / "i3d.pt").touch()
    asked = options(metrics=("fvd",), files={"fvd": tmp_path / "i3d.pt"})
    with pytest.raises(UsageError, match="cannot be resumed"):
        bench([], [toy], asked, resume=tmp_path / "rows.jsonl")


def test_only_the_worst_rows_keep_their_pictures(toy, as_clip, moving_clip):
    clips = [as_clip(name, moving_clip(2)) for name in "abc"]
    rows = bench(clips, [toy], options(pictures=2)).rows
    assert sum(row.pictures is not None for row in rows) == 2


def test_each_latent_dtype_is_a_subject():
    names = [s.name for s in load_subjects(["toy"], ["fp32", "fp16"])]
    assert names == ["toy fp32", "toy fp16"]


def test_latents_packed_for_a_clip_cost_it_what_was_allowed(as_clip, moving_clip, monkeypatch):
    model = load_model("pocket", device="cpu")
    monkeypatch.setattr(packed, "find_sensitivities", lambda model: np.ones(model.spec.channels))
    subjects = [Subject(store, model, store, model.spec.plan) for store in ("fp32", "packed:0.5dB")]
    floats, small = bench([as_clip("a", moving_clip(5, 48, 48))], subjects, options()).rows
    drop = floats.scores["psnr"].values["mean"] - small.scores["psnr"].values["mean"]
    assert drop <= 0.5 + 1e-6
    assert small.bits_per_pixel < floats.bits_per_pixel / 2
    assert "dB against the source" in small.notices[-1]


def test_a_folder_stands_for_the_videos_inside(tmp_path):
    for name in ("b.MP4", "sub/a.webm", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_clips([tmp_path]) == [tmp_path / "b.MP4", tmp_path / "sub" / "a.webm"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"codecs": ("h264",)}, "h264: no such codec"),
        ({"codecs": ("x264",), "baseline": "x265"}, "x265: baseline, but not measured"),
        ({"runs": 0}, "0 runs measure nothing"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        options(**wrong)
