"""What `accuracy.py` and `together.py` found, as Markdown."""


def cell(value, percent=False) -> str:
    """A number with its interval, (value, low, high); "-" for None."""
    if value is None:
        return "-"
    scale, digits = (100, 1) if percent else (1, 2)
    middle, low, high = (f"{number * scale:.{digits}f}" for number in value)
    return f"{middle} ({low}-{high})" + (" %" if percent else "")


def _mask_table(slices: dict, truth: str) -> list[str]:
    """Markdown lines of the mask metrics against one of TRUTHS."""
    lines = [
        "| slice | images | IoU | F1 | boundary F1 | pooled IoU | AUROC |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in slices.items():
        if row["marked"]:
            cells = [cell(row[truth][key]) for key in ("iou", "f1", "boundary_f1", "pooled_iou")]
            cells.append(cell(row.get("auroc")))
            lines.append(f"| {name} | {row['marked']} | {' | '.join(cells)} |")
    return lines


def _means(slices: dict) -> list[str]:
    """A Markdown line with the mean IoU of the slices, which all weigh the same."""
    iou = {name: row["decidable"]["iou"][0] for name, row in slices.items() if row["marked"]}
    older = [value for name, value in iou.items() if name != "real-look"]  # in all former tables
    if len(older) < 2:
        return []
    line = f"Mean IoU of these {len(iou)} slices: {sum(iou.values()) / len(iou):.3f}"
    if len(older) < len(iou):
        line += f"; of the {len(older)} without real-look: {sum(older) / len(older):.3f}"
    return [f"{line}.", ""]


def markdown(results: dict) -> str:
    """The tables of `accuracy.summarise`, with 95 % bootstrap intervals in brackets."""
    slices, score = results["slices"], results["score"]
    lines = [
        "Mean over the marked images of each slice; pooled: all pixels together. AUROC: the score "
        "against clean photos. In brackets 95 % bootstrap intervals.", "",
        "Truth without undecidable pixels:", "", *_mask_table(slices, "decidable"), "",
        *_means(slices),
        'Truth "alpha > 0", as papers have it:', "", *_mask_table(slices, "alpha"),
    ]  # fmt: skip
    for name, row in slices.items():
        if row["clean"]:
            share, area = (cell(row[key], True) for key in ("images_marked", "area_marked"))
            lines += ["", f"{name}: {share} of {row['clean']} clean images have more than 0.1 % of "
                      f"their pixels marked; {area} of all their pixels are."]  # fmt: skip
        if row["undecided"]:
            lines += ["", f"{name}: {row['undecided']} images left out, because their mark is too "
                      "small or faint to decide."]  # fmt: skip
    if score:
        lines += ["", f"Score over all slices: AUROC {cell(score['auroc'])}, expected calibration "
                  f"error {score['calibration_error']:.2f}, clean and marked photos weighing the "
                  "same."]  # fmt: skip
    return "\n".join(lines) + "\n"
