"""The shipped images: Hugging Face layout, and no overlap between splits or with training."""

import io
import json

import pyarrow.parquet as pq
import pytest
from PIL import Image

from synood_ray.mini import data_path
from synood_ray.mini.world import TEST_STYLE, TRAINING_STYLES, load_world
from tools.mini_world.make_data import FILES, names_of

pytestmark = pytest.mark.skipif(not data_path("id_test.parquet").exists(), reason="data not built")


@pytest.mark.parametrize("file", FILES)
def test_layout(file: str) -> None:
    data = pq.ParquetFile(data_path(f"{file}.parquet"))
    schema = data.schema_arrow
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert set(features) == set(schema.names)
    classes = features["label"]["names"]
    assert classes == list(getattr(load_world(), FILES[file][0]))
    rows = data.read().to_pydict()
    assert [classes[label] for label in rows["label"]] == rows["name"] == names_of(file, load_world())
    assert data.metadata.row_group(0).num_rows <= 100
    for image, (x0, y0, x1, y1) in zip(rows["image"][:3], rows["box"], strict=False):
        assert Image.open(io.BytesIO(image["bytes"])).size == (64, 64)
        assert 0 <= x0 < x1 <= 64 and 0 <= y0 < y1 <= 64


def test_styles_and_contexts_stay_on_their_side() -> None:
    context = set(load_world().context)
    for file in FILES:
        rows = pq.read_table(data_path(f"{file}.parquet"), columns=["style", "context"]).to_pydict()
        allowed = {TEST_STYLE} if file.endswith("unseen") else set(TRAINING_STYLES)
        assert set(rows["style"]) <= allowed
        assert all(0 < len(c) <= 3 and set(c) <= context for c in rows["context"])


def test_no_image_appears_twice() -> None:
    seen: set[bytes] = set()
    count = 0
    for file in FILES:
        images = pq.read_table(data_path(f"{file}.parquet"), columns=["image"]).to_pydict()["image"]
        seen |= {image["bytes"] for image in images}
        count += len(images)
    assert len(seen) == count


def test_far_calibration_and_test_share_no_class() -> None:
    assert not set(names_of("far_val", load_world())) & set(names_of("far_test", load_world()))
