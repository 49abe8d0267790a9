"""The size clustering of the star selector, one point at a time."""

import math
import statistics


def cluster_sizes(width, width_std_allowed):
    ordered = sorted(width)
    smallest = ordered[len(ordered) // 10]
    centers = [smallest + 2.0 * width_std_allowed * smallest * k for k in range(4)]
    cluster = None
    while True:
        nearest = []
        for value in width:
            best, best_distance = 0, math.inf
            for k, center in enumerate(centers):
                if not math.isnan(center) and abs(value - center) < best_distance:
                    best, best_distance = k, abs(value - center)
            nearest.append(best)
        if nearest == cluster:
            return nearest
        cluster = nearest
        centers = []
        for k in range(4):
            members = [value for value, own in zip(width, cluster) if own == k]
            centers.append(statistics.median(members) if members else math.nan)


def tighten_cluster(width, members, n_sigma_clip, width_std_allowed):
    members = list(members)
    if sum(members) < 5:
        return members
    for _ in range(10):
        own = sorted(value for value, member in zip(width, members) if member)
        n = len(own)
        sigma = min(statistics.pstdev(own), 0.741 * (own[int(0.75 * n)] - own[int(0.25 * n)]))
        if sigma <= 0:
            return members
        center = statistics.median(own)
        members = [m and abs(v - center) < n_sigma_clip * sigma for v, m in zip(width, members)]
        if sum(members) in (0, n) or sigma < width_std_allowed * own[int(0.5 * n)]:
            return members
    return members
