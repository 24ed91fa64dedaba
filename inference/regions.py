"""Corrects a probability map and the score by the connected regions of the map.

A photo rarely carries both a certain mark and a hardly visible one. So a region with far less
evidence for each pixel than a certain region counts as part of the scene. This does not hold for
the copies of a tiled mark, which lie on bright and dark ground; see `repeats`.
"""

import cv2
import numpy as np

from inference.maps import logit

MARKED = 0.5  # probability of a region's pixels
CERTAIN_LOGIT = 3.0  # weak regions are lowered if the strongest has at least this mean
WEAK = 0.2  # of that mean; a region with less is weak: log 43
LOWERED = 0.45  # the highest probability of a weak region
RIM_PX = 8  # ground around a weak region that is lowered too, so that no ring remains
SUSPECT = 0.4  # probability of the pixels of a region that counts for the score
LETTER_GAP_PX = 9  # letters that lie nearer together are one region
MIN_REGION_PX = 16  # smaller regions do not count
LEAST_PROBABILITY = 1e-3  # probabilities are clipped to this before the logit
NO_REGION = -1.0  # mean logit for a photo without a region
REGION_WEIGHT = 0.3  # of the strongest region's mean logit in the score's logit


def lower_weak_regions(probability: np.ndarray) -> np.ndarray:
    """A probability map (float32, H x W) with lower values in weak regions beside a certain one.

    Returns:
        float32, H x W; `probability` itself if there is nothing to lower.
    """
    marked = probability >= MARKED
    count, labels, stats, _ = cv2.connectedComponentsWithStats(marked.view(np.uint8))
    if count < 3:  # the background counts as one
        return probability
    totals = np.bincount(labels[marked], logit(probability[marked]), count)
    means = totals / stats[:, cv2.CC_STAT_AREA]
    certain = means[totals.argmax()]
    weak = np.flatnonzero(means[1:] < WEAK * certain) + 1
    if certain < CERTAIN_LOGIT or not len(weak):
        return probability
    lowered = probability.copy()
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * RIM_PX + 1,) * 2)
    for label in weak:
        left, top, width, height, _ = stats[label]
        rows = slice(max(0, top - RIM_PX), top + height + RIM_PX)
        part = rows, slice(max(0, left - RIM_PX), left + width + RIM_PX)
        region = labels[part] == label
        rim = cv2.dilate(region.view(np.uint8), disk).view(bool) & (labels[part] == 0)
        values = probability[part] * (LOWERED / probability[part][region].max())
        np.minimum(lowered[part], values, out=lowered[part], where=region | rim)
    return lowered


def region_evidence(probability: np.ndarray) -> float:
    """What the strongest region of a probability map (float32, H x W) adds to the score's logit."""
    suspect = probability >= SUSPECT
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (LETTER_GAP_PX, LETTER_GAP_PX))
    joined = cv2.morphologyEx(suspect.view(np.uint8), cv2.MORPH_CLOSE, disk)
    count, labels = cv2.connectedComponents(joined)
    labels = labels[suspect]
    pixels = np.bincount(labels, minlength=count)
    totals = np.bincount(labels, logit(probability[suspect], LEAST_PROBABILITY), count)
    means = totals[pixels >= MIN_REGION_PX] / pixels[pixels >= MIN_REGION_PX]
    return REGION_WEIGHT * float(means.max(initial=NO_REGION))
