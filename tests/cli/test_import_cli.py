"""`vidlatent import` as a person meets it."""

import tarfile

import torch


def test_from_a_tensor_to_a_film(vidlatent, tmp_path):
    torch.save(torch.randn(1, 768, 3, 4, 6).tanh(), tmp_path / "made.pt")
    latent = tmp_path / "made.latent"
    run = vidlatent("import", tmp_path / "made.pt", "-o", latent, "--model", "toy", "--fps", "24000/1001")
    assert run.code == 0 and run.out.split() == [str(latent)]
    assert "latents 3x768x4x6 of toy, read as raw; 9 frames at 23.976 per second" in run.err
    assert vidlatent("decode", latent, "-o", tmp_path / "a.mkv", "--device", "cpu").code == 0
    again = vidlatent("import", tmp_path / "made.pt", "-o", latent, "--model", "toy", "--fps", 24)
    assert again.code == 2 and "--force" in again.err


def test_what_is_missing_is_asked_for_by_its_flag(vidlatent, tmp_path):
    torch.save(torch.randn(16, 3, 4, 6), tmp_path / "a.pt")
    run = vidlatent("import", tmp_path / "a.pt", "-o", tmp_path / "out")
    assert run.code == 2 and "hint: say it, for instance --model wan-2.1" in run.err


def test_a_clip_taken_out_of_a_shard_keeps_its_times_and_nothing_else_is_said(
    vidlatent, little_latent, tmp_path
):
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(little_latent, "clip.latent")
        (tmp_path / "clip.json").write_text("{}")
        tar.add(tmp_path / "clip.json", "clip.json")
    run = vidlatent("import", tmp_path / "shard.tar", "-o", tmp_path / "out.latent")
    assert run.code == 0 and "per second\n" in run.err, run.err
    assert (tmp_path / "out.latent").read_bytes() == little_latent.read_bytes()
