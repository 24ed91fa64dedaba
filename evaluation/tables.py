"""What `accuracy.py` found, as Markdown."""

IMITATIONS = ("LOGO-L", "LOGO-H", "LOGO-gray", "CLWD")
ORDER = (  # of the rows: first what a user meets, then the imitations of published test sets
    "large-corner", "large-text", "large-real-look", "print-text", "text", "tiled", "faint",
    "opaque", "blend", "recompressed", "real-look", *IMITATIONS,
    "print-clean", "large-clean", "clean", "clean-reduced", "clean-edited",
)  # fmt: skip
NAMES = {"clean": "clean thumbnails", **{name: f"{name}-like" for name in IMITATIONS}}
MASK_COLUMNS = {  # what `accuracy.summarise` calls it, to the column's title
    "iou": "IoU", "f1": "F1", "pooled_iou": "pooled IoU", "auroc": "AUROC",
    "alpha_iou": "IoU, alpha > 0", "alpha_f1": "F1, alpha > 0",
}  # fmt: skip
CLEAN_COLUMNS = {"images_marked": "images marked", "area_marked": "pixels marked"}


def cell(value, percent=False) -> str:
    """A number with its interval, (value, low, high); "-" for None."""
    if value is None:
        return "-"
    scale, digits = (100, 1) if percent else (1, 2)
    middle, low, high = (f"{number * scale:.{digits}f}" for number in value)
    return f"{middle} ({low}-{high})" + (" %" if percent else "")


def table(titles, rows) -> str:
    """A Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def markdown(results: dict) -> str:
    """The tables of results.json, with 95 % bootstrap intervals in brackets."""
    order = dict(zip(ORDER, range(len(ORDER))))
    slices = sorted(results["slices"].items(), key=lambda row: order.get(row[0], len(order)))
    rows = [(NAMES.get(name, name), row) for name, row in slices]
    test_set, model = (results[f"{kind}_sha256"][:16] for kind in ("test_set", "model"))
    program = results["program"].rsplit(" ", 1)[0]  # the last word is a hash
    parts = [
        f"Test set {test_set}, model {model} (SHA-256), run by {program}.",
        "In brackets: 95 % bootstrap intervals over photos.",
    ]
    if marked := [(name, row) for name, row in rows if row["marked"]]:
        cells = [(name, row["marked"], *(cell(row.get(key)) for key in MASK_COLUMNS))
                 for name, row in marked]  # fmt: skip
        mean = sum(row["iou"][0] for _, row in marked) / len(marked)
        parts += ["Marked images. AUROC: of the score, against all clean photos.",
                  table(("marks", "images", *MASK_COLUMNS.values()), cells),
                  f"Mean IoU of {len(marked)} slices: {mean:.3f}."]  # fmt: skip
    if clean := [(name, row) for name, row in rows if row["clean"]]:
        cells = [(name, row["clean"], *(cell(row[key], True) for key in CLEAN_COLUMNS),
                  cell(row.get("auroc"))) for name, row in clean]  # fmt: skip
        titles = ("clean photos", "images", *CLEAN_COLUMNS.values(), "AUROC")
        parts += ["Clean photos. Marked: more than 0.1 % of the pixels. AUROC: against all marked "
                  "images.", table(titles, cells)]  # fmt: skip
    parts += [f"{name}: {row['undecided']} images left out, because their mark is too small or "
              "faint to decide." for name, row in rows if row["undecided"]]  # fmt: skip
    if score := results["score"]:
        parts += [f"Score over all slices: AUROC {cell(score['auroc'])}, expected calibration "
                  f"error {score['calibration_error']:.2f}. Clean and marked photos weigh the same "
                  "in the error."]  # fmt: skip
    return "\n\n".join(parts) + "\n"
