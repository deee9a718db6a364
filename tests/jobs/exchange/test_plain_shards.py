"""An export of plain safetensors is read back for training as the cache itself is."""

import pytest
import torch
from helpers import trainer_caches as caches

from vidlatent.errors import BadInput
from vidlatent.jobs.exchange.export import ExportOptions, export
from vidlatent.jobs.readback.dataset import LatentDataset
from vidlatent.jobs.readback.stream import LatentStream


@pytest.mark.parametrize("normalise", [False, True])
def test_the_samples_are_those_of_the_cache(cached, tmp_path, normalise):
    root = cached("wan-2.1", store="bf16")
    list(export(root, tmp_path, "safetensors", ExportOptions(shard_bytes=20000)))
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    wanted = {item["key"]: item for item in LatentDataset(root, normalise=normalise)}
    for found in (LatentDataset(tmp_path, normalise=normalise), LatentStream(tmp_path, normalise=normalise)):
        items = {item["key"]: item for item in found}
        assert items.keys() == wanted.keys()
        for key, item in items.items():
            assert torch.equal(item["latents"], wanted[key]["latents"])
            assert item["source"] == wanted[key]["source"] and item["facts"] == wanted[key]["facts"]


def test_a_crop_reads_a_part(cached, tmp_path):
    root = cached("wan-2.1", "whole")
    list(export(root, tmp_path, "safetensors"))
    pairs = zip(LatentDataset(tmp_path, crop=2), LatentDataset(tmp_path), strict=True)
    for part, whole in pairs:
        start = part["start"]
        assert torch.equal(part["latents"], whole["latents"][start : start + 2])


def test_normalised_tensors_come_back_raw(cached, tmp_path):
    root = cached("wan-2.1", "whole")
    list(export(root, tmp_path, "safetensors", ExportOptions(space="normalised")))
    wanted = {item["key"]: item["latents"] for item in LatentDataset(root)}
    for item in LatentDataset(tmp_path):
        torch.testing.assert_close(item["latents"], wanted[item["key"]], atol=1e-5, rtol=1e-5)


def test_an_index_that_lies_is_refused(cached, tmp_path):
    list(export(cached("wan-2.1", "whole"), tmp_path, "safetensors"))
    (shard,) = tmp_path.glob("*.safetensors")
    shard.write_bytes(b"\xff" * 100)
    with pytest.raises(BadInput, match=r"not a shard of latents with an index\.json"):
        LatentDataset(tmp_path)


def test_the_shapes_are_those_of_the_tensors(cached, tmp_path):
    root = cached("wan-2.1", "whole")
    list(export(root, tmp_path, "safetensors"))
    shapes = {tuple(latents.transpose(0, 1).shape) for _, latents in caches.read_cache(root)}
    data = LatentDataset(tmp_path)
    assert {data.shape(index) for index in range(len(data))} == shapes
