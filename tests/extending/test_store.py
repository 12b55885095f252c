"""docs/extending.md, "A store", to the letter: the suite of all stores, and a run that lives in one."""

from pathlib import Path

import pytest

from tests.extending.pages import follow, run

pytestmark = pytest.mark.slow

CONTRACT = """
import pytest

from synood_ray.storage.stores import open_store
from tests.storage.stores.test_base import *

@pytest.fixture
def uri(tmp_path):
    return f"memory://{tmp_path}"

@pytest.fixture
def store(uri):
    return open_store(uri)

folder = store
"""

USE = """
import pytest

from synood_ray.errors import UserError
from synood_ray.storage.publish import publish
from synood_ray.storage.run import Run
from synood_ray.storage.stores import open_store
from tests.storage.builders import commit, make_run

store = open_store("memory://notes")
commit(store, make_run(store), failed=["00000001"])
publish(store)
made = Run.open(open_store("memory://notes", write=False))
assert made.status().published and len(list(made.samples())) == 20
with pytest.raises(UserError, match="nothing here"):
    open_store("memory://other", write=False)
with pytest.raises(UserError, match="one of memory://, file://, s3://"):
    open_store("ftp://x")
print("a run lives in it")
"""


def test_the_page_adds_a_store_that_keeps_the_contract(tmp_path: Path) -> None:
    folder = follow("A store", tmp_path / "copy")
    assert run(folder, "-c", USE).strip() == "a run lives in it"
    (folder / "test_memory.py").write_text(CONTRACT)
    said = run(folder, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null", "test_memory.py")
    assert "passed" in said and "failed" not in said
