"""Draw contact_sheet.png: scenes of the world, and inpaintings under the prompts they were asked for.

python -m tools.mini_world.contact_sheet
"""

import argparse
from pathlib import Path
from typing import Any

from synood_ray.mini import ROOT
from tools.mini_world.check import read_images
from tools.mini_world.check_inpainting import inpaint, load_pipeline, square_masks

SUBJECTS = ("fox", "tomato", "bus", "butterfly", "airplane", "guitar", "t-shirt", "dolphin", "bear")
SCALE = 2
HEADER = 14


def paste(sheet: Any, image: Any, column: int, row: int, top: int) -> None:
    """Put a uint8 image [3, 64, 64] into a cell of the sheet, enlarged."""
    from PIL import Image

    side = 64 * SCALE
    tile = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.BICUBIC)
    sheet.paste(tile, (column * side, top + row * side))


def draw(path: Path, scenes: int = 6, seed: int = 0) -> None:
    import torch
    from PIL import Image, ImageDraw

    torch.set_num_threads(1)
    side, columns = 64 * SCALE, len(SUBJECTS) + 3
    data = read_images("id_test")
    sheet = Image.new("RGB", (columns * side, HEADER * 2 + (2 + scenes) * side), "white")
    text = ImageDraw.Draw(sheet)
    text.text((2, 1), "scenes (id_test)", fill="black")
    for cell in range(2 * columns):
        paste(sheet, data.images[cell * 19 % len(data.images)], cell % columns, cell // columns, HEADER)
    top = HEADER * 2 + 2 * side
    rows = torch.tensor([(r * 83 + 5) % len(data.images) for r in range(scenes)])
    images, masks = data.images[rows], square_masks(data.boxes[rows])
    titles = ["scene", "mask", *SUBJECTS, "contexts only"]
    results = [images, torch.where(masks > 0.5, 128, images).to(torch.uint8)]
    pipeline = load_pipeline()
    for subject in (*SUBJECTS, None):
        prompts = [f"A photo of {subject or ', '.join(data.contexts[r])}." for r in rows.tolist()]
        results.append(inpaint(pipeline, images, masks, prompts, seed))
    for column, (title, column_images) in enumerate(zip(titles, results, strict=True)):
        text.text((column * side + 2, top - HEADER + 1), title, fill="black")
        for row, image in enumerate(column_images):
            paste(sheet, image, column, row, top)
    sheet.quantize(255, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "contact_sheet.png")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw(args.out, seed=args.seed)


if __name__ == "__main__":
    main()
