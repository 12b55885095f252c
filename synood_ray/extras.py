"""What `pip install synood_ray` alone does not bring, and how to get it."""

from __future__ import annotations

from synood_ray.errors import UserError

EXTRAS = {
    "farm": (
        *("ray", "diffusers", "accelerate", "boto3", "botocore", "urllib3", "pyarrow", "grpc"),
        *("httpx", "fastapi", "starlette", "rich", "jinja2", "markupsafe"),
    ),
    "cpu": ("vllm",),
    "pytorch-ood": ("pytorch_ood",),
}
"""Extra -> packages by the names under which they are imported. vLLM for a GPU comes with the extra gpu."""


def missing_extra(error: ModuleNotFoundError) -> UserError | None:
    """The user's way out if a package of an extra is not installed; None if another module is missing: a defect."""
    package = (error.name or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if package in packages:
            choice = f"synood_ray[{extra}]" + (" (or [gpu])" if extra == "cpu" else "")
            return UserError(f"{package} is not installed; this needs {choice}: pip install 'synood_ray[{extra}]'")
    return None
