"""What `accuracy.py` found, as Markdown."""

ORDER = (  # of the rows: first what a user meets, then the imitations of published test sets
    "large-corner", "large-text", "large-real-look", "print-text", "text", "tiled", "faint",
    "opaque", "blend", "recompressed", "real-look", "LOGO-L", "LOGO-H", "LOGO-gray", "CLWD",
    "print-clean", "large-clean", "clean", "clean-reduced", "clean-edited",
)  # fmt: skip
IMITATIONS = ("LOGO-L", "LOGO-H", "LOGO-gray", "CLWD")
NAMES = {"clean": "clean thumbnails", **{name: f"{name}-like" for name in IMITATIONS}}
MASK_COLUMNS = {  # what `accuracy.summarise` calls it, to the column's title
    "iou": "IoU", "f1": "F1", "pooled_iou": "pooled IoU", "auroc": "AUROC",
    "alpha_iou": "IoU, alpha > 0", "alpha_f1": "F1, alpha > 0",
}  # fmt: skip


def cell(value, percent=False) -> str:
    """A number with its interval, (value, low, high); "-" for None."""
    if value is None:
        return "-"
    scale, digits = (100, 1) if percent else (1, 2)
    middle, low, high = (f"{number * scale:.{digits}f}" for number in value)
    return f"{middle} ({low}-{high})" + (" %" if percent else "")


def table(titles, rows) -> list[str]:
    """Lines of a Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


def markdown(results: dict) -> str:
    """The tables of `accuracy.summarise`, with 95 % bootstrap intervals in brackets."""
    places = {name: place for place, name in enumerate(ORDER)}
    slices = dict(sorted(results["slices"].items(), key=lambda row: places.get(row[0], len(ORDER))))
    marked = {name: row for name, row in slices.items() if row["marked"]}
    clean = {name: row for name, row in slices.items() if row["clean"]}
    lines = ["In brackets: 95 % bootstrap intervals over photos."]
    if marked:
        lines += ["", *_mask_table(marked)]
    if clean:
        lines += ["", *_clean_table(clean)]
    for name, row in slices.items():
        if row["undecided"]:
            lines += ["", f"{_name(name)}: {row['undecided']} images left out, because their mark "
                      "is too small or faint to decide."]  # fmt: skip
    if score := results["score"]:
        lines += ["", f"Score over all slices: AUROC {cell(score['auroc'])}, expected calibration "
                  f"error {score['calibration_error']:.2f}. Clean and marked photos weigh the same "
                  "in the error."]  # fmt: skip
    return "\n".join(lines) + "\n"


def _name(slice_name: str) -> str:
    return NAMES.get(slice_name, slice_name)


def _mask_table(slices: dict) -> list[str]:
    rows = [[_name(name), row["marked"], *(cell(row.get(key)) for key in MASK_COLUMNS)]
            for name, row in slices.items()]  # fmt: skip
    mean = sum(row["iou"][0] for row in slices.values()) / len(slices)
    return [
        "Marked images. AUROC: of the score, against all clean photos.", "",
        *table(("marks", "images", *MASK_COLUMNS.values()), rows), "",
        f"Mean IoU of {len(slices)} slices: {mean:.3f}.",
    ]  # fmt: skip


def _clean_table(slices: dict) -> list[str]:
    rows = [[_name(name), row["clean"], cell(row["images_marked"], True),
             cell(row["area_marked"], True), cell(row.get("auroc"))]
            for name, row in slices.items()]  # fmt: skip
    titles = ("clean photos", "images", "images marked", "pixels marked", "AUROC")
    return [
        "Clean photos. Marked: more than 0.1 % of the pixels. AUROC: against all marked images.",
        "",
        *table(titles, rows),
    ]  # fmt: skip
