"""What the rows share with other tests."""

from tests.data.conftest import _no_old_clients, make_folder, moto_endpoint, moto_uri  # noqa: F401
