"""Whether two pictures are the same one: copied, resized or saved anew. Small thumbnails, compared all with all.

Pictures of one kind (X-rays, the sea) have alike colours; what tells copies from them is that the detail agrees too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import numpy as np

_COARSE, _FINE = 8, 32  # sides of the two thumbnails: colours, and grey detail
_NEAR = 8  # largest difference of the colours, of 255: saving as JPEG and resizing move them by less
_AGREES = 0.6  # correlation of the detail: 0.8 and more of photos saved anew, about 0 of two pictures of one kind
_FLAT = 1.0  # standard deviation of the detail below which there is none: then nothing but rounding may differ
_BLOCK = 2048


def thumbnail(image: Image.Image) -> np.ndarray:
    """What is compared of an RGB picture: uint8 [3 * 8 * 8 + 32 * 32], mean colours and mean greys of its parts."""
    import numpy as np

    coarse = image.resize((_COARSE, _COARSE), Image.Resampling.BOX)
    fine = image.convert("L").resize((_FINE, _FINE), Image.Resampling.BOX)
    return np.concatenate([np.asarray(one, dtype=np.uint8).reshape(-1) for one in (coarse, fine)])


def is_blank(thumb: np.ndarray) -> bool:
    """Whether there is nothing to see: one colour all over, but for rounding."""
    import numpy as np

    colours = thumb[: 3 * _COARSE**2].reshape(-1, 3).astype(int)
    greys = thumb[3 * _COARSE**2 :].astype(int)
    return bool(np.ptp(colours, axis=0).max() <= 1 and np.ptp(greys) <= 1)


def copies(thumbnails: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> dict[int, int]:
    """Place in ``thumbnails`` -> place of the first of the others that shows the same picture."""
    import numpy as np

    found: dict[int, int] = {}
    if not len(thumbnails) or not len(others):
        return found
    colours = 3 * _COARSE**2
    theirs = np.stack([one[:colours] for one in others]).astype(np.float32)
    squared = np.square(theirs).sum(1)
    for start in range(0, len(thumbnails), _BLOCK):
        mine = np.stack([one[:colours] for one in thumbnails[start : start + _BLOCK]]).astype(np.float32)
        distances = np.square(mine).sum(1)[:, None] - 2 * mine @ theirs.T + squared
        for i, j in np.argwhere(distances <= colours * _NEAR**2).tolist():
            alike = np.abs(mine[i] - theirs[j]).max() <= _NEAR
            if start + i not in found and alike and _detail_agrees(thumbnails[start + i], others[j]):
                found[start + i] = j
    return found


def _detail_agrees(one: np.ndarray, other: np.ndarray) -> bool:
    import numpy as np

    first, second = _detail(one), _detail(other)
    if max(first.std(), second.std()) < _FLAT:
        return int(np.abs(one.astype(int) - other).max()) <= 1
    scale = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum()) >= _AGREES * scale > 0


def _detail(thumb: np.ndarray) -> np.ndarray:
    """The greys without what goes on evenly around them: a slope is no detail."""
    import numpy as np

    greys = thumb[3 * _COARSE**2 :].reshape(_FINE, _FINE).astype(np.float32)
    rows, columns = greys[:-2] + greys[2:], greys[:, :-2] + greys[:, 2:]
    return greys[1:-1, 1:-1] - (rows[:, 1:-1] + columns[1:-1]) / 4
