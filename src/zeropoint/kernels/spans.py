"""Runs of pixels: copy source pixels in and out of an image, reduce a mask over footprints."""

from __future__ import annotations

from zeropoint.kernels._compile import helper, kernel

__all__ = ["gather_span_pixels", "paint_spans", "paste_source", "restore_source"]


@helper
def paste_source(work, span_offsets, span_y, span_x0, span_x1, i, pixel_offsets, pixels):  # type: ignore[no-untyped-def]
    """Write the own pixels of source ``i`` into ``work`` (float32 image), in span order.

    Parameters
    ----------
    work : float32, shape (h, w)
        Image, changed in place.
    span_offsets, span_y, span_x0, span_x1 : int64, int32, int32, int32
        Runs of all sources (`FootprintSet`).
    i : int
        Row of the source.
    pixel_offsets : int64, shape (n + 1,)
        Where the pixels of each source start.
    pixels : float32
        Pixel values of all sources.
    """
    p = pixel_offsets[i]
    for s in range(span_offsets[i], span_offsets[i + 1]):
        y = span_y[s]
        for x in range(span_x0[s], span_x1[s] + 1):
            work[y, x] = pixels[p]
            p += 1


@helper
def restore_source(work, noise, span_offsets, span_y, span_x0, span_x1, i):  # type: ignore[no-untyped-def]
    """Write ``noise`` (float32 image) back over the spans of source ``i`` in ``work``."""
    for s in range(span_offsets[i], span_offsets[i + 1]):
        y = span_y[s]
        for x in range(span_x0[s], span_x1[s] + 1):
            work[y, x] = noise[y, x]


@kernel
def gather_span_pixels(image, span_offsets, span_y, span_x0, span_x1, use_heavy, heavy_offsets, heavy, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with every source's pixels in span order: its heavy pixels, else those of ``image``.

    Parameters
    ----------
    image : float32, shape (h, w)
        Image.
    span_offsets, span_y, span_x0, span_x1
        Runs of all sources.
    use_heavy : bool, shape (n,)
        True where ``heavy`` holds the pixels of that source.
    heavy_offsets : int64, shape (n + 1,)
        Start of each source's heavy pixels.
    heavy : float32
        Heavy pixels.
    out : float32, shape (total area,)
        Filled.
    """
    p = 0
    for i in range(span_offsets.shape[0] - 1):
        k = heavy_offsets[i]
        for s in range(span_offsets[i], span_offsets[i + 1]):
            y = span_y[s]
            for x in range(span_x0[s], span_x1[s] + 1):
                if use_heavy[i]:
                    out[p] = heavy[k]
                    k += 1
                else:
                    out[p] = image[y, x]
                p += 1


@kernel
def paint_spans(span_y, span_x0, span_x1, out):  # type: ignore[no-untyped-def]
    """Set ``out`` (uint8 image) to 1 under every run."""
    for s in range(span_y.shape[0]):
        y = span_y[s]
        for x in range(span_x0[s], span_x1[s] + 1):
            out[y, x] = 1
