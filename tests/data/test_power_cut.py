# SPDX-License-Identifier: Apache-2.0
"""After a power cut, files with a manifest or record are complete, or they are rebuilt."""

import pytest
import torch
from archives import captioned, files_of
from power_cut import each_state, final_states, recorded

from pippin.data.cache.build import build_cache
from pippin.data.cache.caption_cache import build_bank
from pippin.data.cache.latent_cache import LatentCache
from pippin.data.cache.manifest import CacheError
from pippin.data.config import CacheConfig
from pippin.data.importing.config import ImportConfig
from pippin.data.importing.importer import import_images
from pippin.types import TextFeatures


def shards(folder):
    return {name: caption for name, caption in files_of(folder).items() if "shard" in name}


def test_a_cache_with_a_manifest_is_whole_and_any_other_is_finished(
    noise_source, encoder, tmp_path
):
    root = tmp_path / "disk"
    root.mkdir()

    def config(place):
        return CacheConfig(folder=str(place / "caches"), shard_size=12)  # 21 rows: 2 shards

    with recorded(root) as disk:
        build_cache(noise_source, encoder, config(root))
    expected, opened = shards(root), 0
    for place in each_state(disk, tmp_path / "states"):
        try:
            LatentCache.open(noise_source, encoder, config(place), "size")
        except CacheError:
            build_cache(noise_source, encoder, config(place))
        else:
            opened += 1
        assert shards(place) == expected
    assert len(disk.states) > 20 and opened
    for place in final_states(disk, tmp_path / "end"):
        LatentCache.open(noise_source, encoder, config(place), "sha256")


class Lengths:
    """Features that identify their caption."""

    def encode(self, captions, num_tokens):
        rows = torch.tensor([[float(len(caption))] for caption in captions])
        return TextFeatures(tokens=None, mask=None, pooled=rows)

    def truncated(self, captions, num_tokens):
        return []


@pytest.mark.parametrize("verify", ["size", "sha256"])
def test_features_of_captions_are_whole_or_made_again(verify, tmp_path):
    root = tmp_path / "disk"
    root.mkdir()

    def bank(place):
        more = {"fingerprint": "x", "num_tokens": 1, "dtype": torch.float32, "verify": verify}
        return build_bank(["a", "bb", "ccc"], Lengths, folder=place / "caches", **more)

    with recorded(root) as disk:
        bank(root)
    for place in each_state(disk, tmp_path / "states"):
        assert bank(place).fetch(torch.arange(3)).pooled.flatten().tolist() == [1, 2, 3]


def test_an_import_is_whole_or_goes_on(tmp_path):
    pytest.importorskip("datasets")
    (tmp_path / "0.tar").write_bytes(captioned(0))
    config, root = ImportConfig(source=str(tmp_path / "0.tar")), tmp_path / "disk"
    root.mkdir()
    with recorded(root) as disk:
        import_images(config, root / "out")
    expected, whole = files_of(root), 0
    for number, place in enumerate(each_state(disk, tmp_path / "states")):
        if (place / "out/metadata.jsonl").exists():
            assert files_of(place) == expected
            whole += 1
        if number % 4:  # each takes a tenth of a second
            continue
        import_images(config, place / "out")
        assert {
            name: caption for name, caption in files_of(place).items() if "writing" not in name
        } == (expected)
    assert len(disk.states) > 15 and whole
    for place in final_states(disk, tmp_path / "end"):
        assert files_of(place) == expected


@pytest.mark.parametrize("kept_sizes", [True, False], ids=["format 1", "format 0"])
@pytest.mark.parametrize("damage", ["emptied", "cut", "removed"])
def test_an_image_of_another_size_is_imported_again(damage, kept_sizes, tmp_path):
    pytest.importorskip("datasets")
    from edited_json import edit

    (tmp_path / "0.tar").write_bytes(captioned(0, 3))
    config, out = ImportConfig(source=str(tmp_path / "0.tar")), tmp_path / "out"
    import_images(config, out)
    if not kept_sizes:  # as earlier versions wrote it
        edit(out / ".parts/00000.json", num_bytes=[], format=0)
    image = out / "00000/0000001.png"
    content = image.read_bytes()
    if damage == "removed":
        image.unlink()
    else:
        image.write_bytes(b"" if damage == "emptied" else content[:-1])
    result = import_images(config, out)
    if damage == "cut" and not kept_sizes:
        assert result.before == 1  # its size is not known: scanning the images finds it
        return
    assert (result.before, result.images, image.read_bytes()) == (0, 3, content)


def test_files_of_somebody_else_beside_a_damaged_shard_stay(tmp_path):
    pytest.importorskip("datasets")
    (tmp_path / "0.tar").write_bytes(captioned(0, 3))
    config, out = ImportConfig(source=str(tmp_path / "0.tar")), tmp_path / "out"
    import_images(config, out)
    (out / "00000/0000001.png").write_bytes(b"")
    note = out / "00000/0000001.txt"
    note.write_text("mine")
    with pytest.raises(ValueError, match=r"00000 is incomplete.*0000001\.txt: move it away"):
        import_images(config, out)
    assert note.read_text() == "mine" and (out / "00000/0000000.png").exists()
