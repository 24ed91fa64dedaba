"""Regions of a probability map, judged by each other.

A photo rarely carries one mark that is certain and another that is hardly seen. So beside a certain
region, one with far less evidence for each of its pixels is taken for a part of the scene. Where a
mark is tiled this is not so: its copies lie on bright and dark ground; see `repeats`.
"""

import cv2
import numpy as np

from inference.maps import logit

MARKED = 0.5  # probability of a region's pixels
CERTAIN_LOGIT = 3.0  # mean of the strongest region's pixels, beside which others are doubted
WEAK = 0.2  # of that mean; a region with less is doubted: EXPERIMENTS.md, 2026-11-29
DOUBTED = 0.45  # the highest probability of a doubted region


def doubt_weak_regions(probability: np.ndarray) -> np.ndarray:
    """A probability map (float32, H x W) with lower values where a region is doubted.

    Returns:
        float32, H x W; `probability` itself if there is nothing to doubt.
    """
    marked = probability >= MARKED
    count, labels, stats, _ = cv2.connectedComponentsWithStats(marked.view(np.uint8))
    if count < 3:  # the ground is one of them
        return probability
    totals = np.bincount(labels[marked], logit(probability[marked]), count)
    means = totals / stats[:, cv2.CC_STAT_AREA]
    certain = means[totals.argmax()]
    weak = np.flatnonzero(means[1:] < WEAK * certain) + 1
    if certain < CERTAIN_LOGIT or not len(weak):
        return probability
    doubted = probability.copy()
    for label in weak:
        left, top, width, height, _ = stats[label]
        part = slice(top, top + height), slice(left, left + width)
        region = labels[part] == label
        doubted[part][region] *= DOUBTED / doubted[part][region].max()
    return doubted
