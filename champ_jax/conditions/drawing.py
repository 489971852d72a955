"""Solid shapes on a uint8 canvas with the exact pixels of OpenCV's drawing functions, without OpenCV.

Every function takes N shapes at once and returns two arrays: the number of the shape and the flat pixel number, for
each pixel each shape covers inside a canvas of `size` = (width, height). Coordinates are x (right) and y (down); shapes
may lie partly or wholly outside. Fixed-point numbers have 16 fractional bits.
"""

import numpy as np

_BITS = 16
_ONE = 1 << _BITS
_HALF = _ONE >> 1

# Half-width of each row of a filled disc, top to bottom.
_DISC_ROWS = {1: (0, 1, 0), 3: (0, 2, 2, 3, 2, 2, 0), 4: (0, 2, 3, 3, 4, 3, 3, 2, 0)}
_DISCS = {
    radius: np.array([(x, y - radius) for y, half in enumerate(rows) for x in range(-half, half + 1)])
    for radius, rows in _DISC_ROWS.items()
}

# Sine of 0..450 whole degrees as the drawing functions tabulate it: 7 decimals, single precision.
_SINE = np.round(np.sin(np.radians(np.arange(451))), 7).astype(np.float32).astype(np.float64)

Size = tuple[int, int]
Pixels = tuple[np.ndarray, np.ndarray]


def paint(canvas: np.ndarray, layers: np.ndarray, pixels: np.ndarray, colors: np.ndarray) -> None:
    """Sets flat pixel numbers (K,) of a canvas (H, W, 3) to `colors` (K, 3); where pixels repeat, high layers win."""
    order = np.argsort(layers, kind="stable")
    canvas.reshape(-1, 3)[pixels[order]] = colors[order]


def ellipse_polygons(centers: np.ndarray, lengths: np.ndarray, width: int, angles: np.ndarray) -> np.ndarray:
    """Polygons of whole ellipses, a vertex a degree.

    Args:
      centers: (N, 2) integer pixels.
      lengths: (N,) integer semi-axes along `angles`.
      width: integer semi-axis across them.
      angles: (N,) whole degrees in -180..180, from x towards y.

    Returns:
      (N, 361, 2) int64 vertices.
    """
    angles = angles[:, None] % 360
    cosine, sine = _SINE[450 - angles], _SINE[angles]
    degrees = np.arange(361)
    along, across = lengths[:, None] * _SINE[450 - degrees], width * _SINE[degrees]
    x = centers[:, :1] + along * cosine - across * sine
    y = centers[:, 1:] + along * sine + across * cosine
    return np.rint(np.stack([x, y], axis=-1)).astype(np.int64)


def convex_polygons(vertices: np.ndarray, size: Size) -> Pixels:
    """Filled convex polygons of integer vertices (N, K, 2), outline included."""
    outline = _lines(vertices.reshape(-1, 2), np.roll(vertices, 1, axis=1).reshape(-1, 2), size)
    inside = _convex_spans(vertices << _BITS, vertices[..., 1], size)
    return np.concatenate([outline[0] // vertices.shape[1], inside[0]]), np.concatenate([outline[1], inside[1]])


def thick_lines(starts: np.ndarray, ends: np.ndarray, size: Size) -> Pixels:
    """Lines 2 pixels wide between integer pixels (N, 2), with a disc of radius 1 at each end."""
    caps, cap_pixels = discs(np.concatenate([starts, ends]), 1, size)
    dx, dy = starts[:, 0] - ends[:, 0], ends[:, 1] - starts[:, 1]
    lines = np.flatnonzero((dx != 0) | (dy != 0))  # the others are a disc only
    dx, dy = dx[lines], dy[lines]
    scale = _ONE / np.sqrt((dx * dx + dy * dy).astype(np.float64))
    offset = np.rint(np.stack([dy * scale, dx * scale], axis=-1)).astype(np.int64)
    p, q = starts[lines] << _BITS, ends[lines] << _BITS
    corners = np.stack([p + offset, p - offset, q - offset, q + offset], axis=1)
    outline = _fixed_lines(np.roll(corners, 1, axis=1).reshape(-1, 2), corners.reshape(-1, 2), size)
    inside = _convex_spans(corners, (corners[..., 1] + _HALF) >> _BITS, size)
    index = np.concatenate([lines[outline[0] // 4], lines[inside[0]], caps % max(len(starts), 1)])
    return index, np.concatenate([outline[1], inside[1], cap_pixels])


def discs(centers: np.ndarray, radius: int, size: Size) -> Pixels:
    """Filled discs of radius 1, 3 or 4 at integer centers (N, 2)."""
    width, height = size
    x, y = np.moveaxis(np.asarray(centers, np.int64)[:, None] + _DISCS[radius], -1, 0)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return np.nonzero(inside)[0], y[inside] * width + x[inside]


def _convex_spans(vertices: np.ndarray, rows: np.ndarray, size: Size) -> Pixels:
    """Pixels between the two chains that run down from each polygon's top vertex.

    Args:
      vertices: (N, K, 2) fixed point.
      rows: (N, K) the pixel row each vertex counts for. The lowest is not filled: it is left to the outline.
      size: (width, height) of the canvas.
    """
    width, height = size
    count, corners = rows.shape
    polygon = np.arange(count)
    first = np.argmin(vertices[..., 1], axis=1)
    steps = np.arange(corners + 1)
    path = np.stack([first[:, None] + steps, first[:, None] - steps]) % corners  # (2, N, K + 1)
    x = vertices[polygon[:, None], path, 0]
    # A chain's next edge ends at its first vertex below all before it, and starts at the vertex just before that one.
    reached = np.maximum.accumulate(rows[polygon[:, None], path], axis=-1)
    side, owner, edge = np.nonzero(reached[..., 1:] > reached[..., :-1])
    top, bottom = reached[side, owner, edge], reached[side, owner, edge + 1]
    x_top, x_bottom = x[side, owner, edge], x[side, owner, edge + 1]
    slope = _truncated_quotient(2 * (x_bottom - x_top) + (bottom - top), 2 * (bottom - top))
    first_row, end_row = np.clip(top, 0, height), np.clip(bottom, 0, height)
    edge, row = _runs(end_row - first_row)
    row = row + first_row[edge]
    # Both sides of a polygon reach over the same rows, so that they pair up.
    sides = (x_top[edge] + slope[edge] * (row - top[edge])).reshape(2, -1)
    owner, row = owner[edge].reshape(2, -1)[0], row.reshape(2, -1)[0]
    left = np.maximum((sides.min(axis=0) + _HALF) >> _BITS, 0)
    right = np.minimum((sides.max(axis=0) + _HALF) >> _BITS, width - 1)
    span, column = _runs(np.maximum(right - left + 1, 0))
    return owner[span], (row * width + left)[span] + column


def _lines(starts: np.ndarray, ends: np.ndarray, size: Size) -> Pixels:
    """8-connected Bresenham lines between integer pixels (N, 2), clipped to the canvas first."""
    index, starts, ends = _clip(starts, ends, size)
    swap = (ends[:, 0] < starts[:, 0])[:, None]
    starts, ends = np.where(swap, ends, starts), np.where(swap, starts, ends)
    delta = ends - starts
    length, sign = np.abs(delta), np.where(delta < 0, -1, 1)
    steep = length[:, 1] > length[:, 0]
    major, minor = length.max(axis=-1), length.min(axis=-1)
    line, step = _runs(major + 1)
    along = np.maximum(major[line], 1)
    across = (2 * minor[line] * step + along - 1) // (2 * along)
    x = starts[line, 0] + sign[line, 0] * np.where(steep[line], across, step)
    y = starts[line, 1] + sign[line, 1] * np.where(steep[line], step, across)
    return index[line], y * size[0] + x


def _fixed_lines(starts: np.ndarray, ends: np.ndarray, size: Size) -> Pixels:
    """Digital-differential lines between fixed-point positions (N, 2)."""
    width, height = size
    index, starts, ends = _clip(starts, ends, (width << _BITS, height << _BITS))
    delta = ends - starts
    flat = np.abs(delta[:, 0]) > np.abs(delta[:, 1])
    # In (along, across) the major axis, which grows from start to end.
    starts, last = (np.where(flat[:, None], point, point[:, ::-1]) for point in (starts, ends))
    swap = (last[:, 0] < starts[:, 0])[:, None]
    first, final = np.where(swap, last, starts), np.where(swap, starts, last)
    delta = final - first
    slope = _truncated_quotient(delta[:, 1] << _BITS, delta[:, 0] | 1)
    line, step = _runs((delta[:, 0] >> _BITS) + 1)
    along = ((first[line, 0] + _HALF) >> _BITS) + step
    across = (first[line, 1] + _HALF + slope[line] * step) >> _BITS
    line = np.concatenate([line, np.arange(len(final))])  # the end point is set besides
    along, across = (np.concatenate([run, (final[:, i] + _HALF) >> _BITS]) for i, run in enumerate((along, across)))
    x, y = np.where(flat[line], along, across), np.where(flat[line], across, along)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return index[line[inside]], y[inside] * width + x[inside]


def _clip(starts: np.ndarray, ends: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips segments (N, 2) to a rectangle of `size` at 0, 0 and drops those outside: (numbers kept, starts, ends).

    An end outside moves along the segment to the border, rows before columns, truncating towards zero; the second end
    sees the first one moved.
    """
    limit = np.array(size) - 1
    points = [starts, ends]
    dropped = np.any((np.maximum(starts, ends) < 0) | (np.minimum(starts, ends) > limit), axis=-1)
    for axis in (1, 0):
        # Seen before either end moves along this axis.
        low, high = ([test(point[:, axis]) for point in points] for test in (lambda v: v < 0, limit[axis].__lt__))
        dropped |= (low[0] & low[1]) | (high[0] & high[1])
        for end in (0, 1):
            moves = np.flatnonzero((low[end] | high[end]) & ~dropped)
            if not len(moves):
                continue
            span = (points[1] - points[0])[moves]
            border = np.where(high[end][moves], limit[axis], 0)
            share = (border - points[end][moves, axis]).astype(np.float64) * span[:, 1 - axis] / span[:, axis]
            points[end] = points[end].copy()
            points[end][moves, axis] = border
            points[end][moves, 1 - axis] += np.trunc(share).astype(np.int64)
    kept = np.flatnonzero(~dropped)
    return kept, points[0][kept], points[1][kept]


def _runs(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For runs of the given lengths, one after the other: the run and the place in it of every element."""
    run = np.repeat(np.arange(len(lengths)), lengths)
    return run, np.arange(len(run)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _truncated_quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integer quotient towards zero, b > 0."""
    return np.sign(a) * (np.abs(a) // b)
