"""Connected regions of a probability map: weak ones beside a strong one, and the score's share.

A photo rarely carries one mark that is certain and another that is hardly seen. So beside a certain
region, one with far less evidence for each of its pixels is taken for a part of the scene. The
copies of a tiled mark lie on bright and dark ground and are not compared so; see `repeats`.
"""

import cv2
import numpy as np

from inference.maps import logit

MARKED = 0.5  # probability of a region's pixels
CERTAIN_LOGIT = 3.0  # mean of the strongest region's pixels, from which weak ones are lowered
WEAK = 0.2  # of that mean; a region with less is weak: log 43
LOWERED = 0.45  # the highest probability of a weak region
RIM_PX = 8  # of the ground round it, which falls with it, lest the rim outlive the inside
SUSPECT = 0.4  # probability of the pixels of a region that counts for the score
LETTER_GAP_PX = 9  # letters that lie nearer together are one region
MIN_REGION_PX = 16  # smaller regions do not count
LEAST_PROBABILITY = 1e-3  # where the logit of a pixel ends
NO_REGION = -1.0  # mean logit of a photo without any
REGION_WEIGHT = 0.3  # of the strongest region's mean logit in the score's logit


def lower_weak_regions(probability: np.ndarray) -> np.ndarray:
    """A probability map (float32, H x W) with lower values in weak regions beside a certain one.

    Returns:
        float32, H x W; `probability` itself if there is nothing to lower.
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
