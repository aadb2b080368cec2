# SPDX-License-Identifier: Apache-2.0
"""Training recipes in plain numpy: an independent opinion that shares no code with fpsim.

Elements and scales are rounded in float64 by the definition of their grids; where a recipe's arithmetic
is float32 by definition (scales, quotients, rotations) so it is here. Products are float64 matrix
products, rounded once to float32 and multiplied by the factors of both operands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import numpy as np

F = np.float32
GRID = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
TE = "+++-+------+-+--"


@dataclass
class Cast:
    """Values (R, K) of a row-wise cast, and the factor that is applied after the product."""

    values: np.ndarray
    factor: np.ndarray


def cast(values: np.ndarray, factor: object = 1) -> Cast:
    return Cast(np.asarray(values, np.float64), np.asarray(factor, F).reshape(-1, 1))


def product(a: Cast, b: Cast) -> np.ndarray:
    return (a.values @ b.values.T).astype(F) * a.factor * b.factor.T


def integers(label: str, shape: tuple[int, int], bits: int) -> np.ndarray:
    """Random integers as `fpsim.formats.random_bits` documents them, one word at a time."""

    def mix(h: np.ndarray) -> np.ndarray:
        h = h ^ (h >> 16)
        h = h * 0x7FEB352D % 2**32
        h = h ^ (h >> 15)
        h = h * 0x846CA68B % 2**32
        return h ^ (h >> 16)

    r, k = (np.arange(n, dtype=np.uint64) for n in shape)
    stream = mix(mix(r) ^ crc32(label.encode()))
    each = 32 // bits
    words = mix((stream[:, None] + (k // each)[None] * 0x9E3779B9) % 2**32)
    return ((words >> (k % each * bits)[None]) % 2**bits).astype(np.int64)


def to_grid(y: np.ndarray, draw: np.ndarray | None = None, bits: int = 8) -> np.ndarray:
    """E2M1: nearest even, or up where the fraction, cut to bits, plus a random one reaches 1."""
    m = np.minimum(np.abs(y.astype(np.float64)), 6)
    i = np.clip(np.searchsorted(GRID, m, side="right") - 1, 0, 6)
    fraction = (m - GRID[i]) / (GRID[i + 1] - GRID[i])
    if draw is None:
        up = (fraction > 0.5) | ((fraction == 0.5) & (i % 2 == 1))
    else:
        up = np.floor(fraction * 2**bits) + draw >= 2**bits
    return np.copysign(GRID[i + up], y)


def to_float(
    y: np.ndarray, mantissa: int, lowest: int, largest: float, draw: np.ndarray | None = None
) -> np.ndarray:
    """A float of so many mantissa bits and lowest normal exponent, saturating."""
    y = np.asarray(y, np.float64)
    with np.errstate(divide="ignore"):
        exponent = np.maximum(np.frexp(np.abs(y))[1] - 1, lowest)
    step = np.exp2(exponent - mantissa)
    n = np.abs(y) / step
    whole = np.rint(n) if draw is None else np.floor(n + draw / 256)
    return np.copysign(np.minimum(whole * step, largest), y)


def e4m3(y: np.ndarray, draw: np.ndarray | None = None) -> np.ndarray:
    return to_float(y, 3, -6, 448, draw)


def e5m2(y: np.ndarray) -> np.ndarray:
    return to_float(y, 2, -14, 57344)


def bf16(x: np.ndarray) -> Cast:
    return cast(to_float(x, 7, -126, 3.39e38))


def float32(x: np.ndarray) -> Cast:
    return cast(x)


def per_tensor(x: np.ndarray, rounded: Callable[[np.ndarray], np.ndarray], top: float) -> Cast:
    amax = float(np.abs(x).max())
    return cast(rounded(x.astype(np.float64) * top / amax), amax / top)


def by_block(amax: np.ndarray, size: int) -> np.ndarray:
    return np.repeat(amax, size, axis=1)


def maxima(x: np.ndarray, size: int) -> np.ndarray:
    return np.abs(x).reshape(len(x), -1, size).max(-1)


def nvfp4(
    x: np.ndarray, limit: float = 6, sr: str | None = None, tile: bool = False, top: float = 448
) -> Cast:
    amax, s_t = maxima(x, 16), np.abs(x).max() / F(limit * top)
    if tile:
        amax = np.repeat(amax.reshape(-1, 16, amax.shape[1]).max(1), 16, axis=0)
    s = e4m3(amax / (F(limit) * s_t)).astype(F)
    s = np.where(s == 0, F(1), s)
    y = x / by_block(s * s_t, 16)
    q = to_grid(y, None if sr is None else integers(sr, x.shape, 8))
    return cast(q * by_block(s, 16), s_t)


def ue5m3(x: np.ndarray, limit: float = 6, sr: str | None = None, tile: bool = False) -> Cast:
    amax = maxima(x, 16)
    if tile:
        amax = np.repeat(amax.reshape(-1, 16, amax.shape[1]).max(1), 16, axis=0)
    s = to_float(amax / F(limit), 3, -14, 114688).astype(F)
    s = np.where(s == 0, F(1), s)
    q = to_grid(x / by_block(s, 16), None if sr is None else integers(sr, x.shape, 8))
    return cast(q * by_block(s, 16))


def four_over_six(x: np.ndarray) -> Cast:
    """Scales to 6 and to 4, the one with the smaller squared error; float32 in the order of ratio."""
    ratio = F(6 * 256) / np.abs(x).max()
    s_t = F(1) / ratio
    amax = maxima(x, 16)
    best, error = None, None
    for c in (1, 1.5):
        s = e4m3(amax / F(6) * ratio * F(c)).astype(F)
        q = to_grid(x * by_block(F(1) / (s_t * s), 16))
        values = q * by_block(s, 16)
        own = ((values * float(s_t) - x) ** 2).reshape(len(x), -1, 16).sum(-1)
        if best is None:
            best, error = values, own
        else:
            best = np.where(by_block(own < error, 16), values, best)
    return cast(best, s_t)


def mxfp4(x: np.ndarray, sr: str | None = None) -> Cast:
    shift = np.frexp(maxima(x, 32))[1] - 3
    scale = by_block(np.exp2(shift), 32)
    if sr is None:
        return cast(to_grid(x / scale) * scale)
    y = (x * F(0.75)).astype(np.float64) / scale
    return cast(to_grid(y, integers(sr, x.shape, 8)) * scale, 4 / 3)


def mxfp8(x: np.ndarray) -> Cast:
    m, e = np.frexp(maxima(x, 32) / 448)  # 448 = 1.75 * 2^8: the least power of two that fits
    scale = by_block(np.exp2(np.where(m == 0.5, e - 1, e).astype(float)), 32)
    return cast(e4m3(x / scale) * scale)


def quest(x: np.ndarray) -> Cast:
    r = np.sqrt((x.reshape(len(x), -1, 32).astype(np.float64) ** 2).mean(-1))
    scale = by_block(np.exp2(np.floor(np.log2(2.92248 / 6 * r))), 32)
    return cast(to_grid(x / scale) * scale)


def quest_mask(x: np.ndarray) -> np.ndarray:
    r = np.sqrt((x.reshape(len(x), -1, 32).astype(np.float64) ** 2).mean(-1))
    return np.abs(x / by_block(np.exp2(np.floor(np.log2(2.92248 / 6 * r))), 32)) < 6


def eden(x: np.ndarray, sr: str, group: int = 128) -> Cast:
    o = 17 / 16 * 0.93
    s_t = np.abs(x).max() / F(6 * 256)
    s = e4m3(maxima(x, 16) / (F(6 / o) * s_t)).astype(F)
    q = to_grid(x / by_block(s * s_t, 16))
    wide, whole = x.astype(np.float64), q * by_block(s, 16) * float(s_t)

    def sums(a: np.ndarray) -> np.ndarray:
        return a.reshape(len(x), -1, group).sum(-1)

    f = sums(wide * wide) / sums(wide * whole)
    raw = s * np.repeat(f, group // 16, axis=1)
    scales = e4m3(raw, integers(f"{sr}/scales", raw.shape, 8))
    return cast(q * by_block(scales, 16), s_t)


def hadamard(x: np.ndarray, size: int, signs: np.ndarray) -> np.ndarray:
    """Blocks of rows times signs, by halves of halves, every sum rounded to float32."""

    def turn(v: np.ndarray) -> np.ndarray:
        if v.shape[-1] == 1:
            return v
        u, w = (turn(part) for part in np.split(v, 2, axis=-1))
        return np.concatenate([u + w, u - w], axis=-1)

    blocks = x.reshape(len(x), -1, size) * signs.astype(F)
    return (turn(blocks) * F(size**-0.5)).reshape(x.shape)


def unhadamard(x: np.ndarray, size: int, signs: np.ndarray) -> np.ndarray:
    ones = np.ones(size)
    back = hadamard(x, size, ones).reshape(len(x), -1, size) * signs.astype(F)
    return back.reshape(x.shape)


def fresh(label: str, size: int) -> np.ndarray:
    return 1 - 2 * integers(label, (1, size), 1)[0]


def te() -> np.ndarray:
    return np.array([1 if sign == "+" else -1 for sign in TE])


def row_maximum(x: np.ndarray) -> tuple[Cast, np.ndarray]:
    """E2M1 by row with ties up, and x in units of its grid."""
    factor = np.abs(x).max(1, keepdims=True) / F(6)
    y = x / factor
    values = np.unique(np.concatenate([-GRID, GRID]))
    middle = (values[1:] + values[:-1]) / 2
    return cast(values[(y[..., None] >= middle).sum(-1)], factor), y


def dge(y: np.ndarray, k: int = 5, cap: float = 3.0) -> np.ndarray:
    values = np.unique(np.concatenate([-GRID, GRID]))
    i = np.clip(np.searchsorted(values, y, side="right") - 1, 0, len(values) - 2)
    u = np.abs(2 * (y.astype(np.float64) - values[i]) / (values[i + 1] - values[i]) - 1)
    with np.errstate(divide="ignore"):
        slope = np.minimum(u ** (1 / k - 1) / k, cap)
    return np.where(np.abs(y) > 6, 0, slope).astype(F)


def clamped(x: np.ndarray, share: float = 0.99) -> np.ndarray:
    flat = np.sort(x.reshape(-1)).astype(np.float64)

    def quantile(q: float) -> np.float32:
        place = q * (flat.size - 1)
        low = int(place)
        return F(flat[low] + (flat[low + 1] - flat[low]) * (place - low))

    return np.clip(x, quantile(1 - share), quantile(share))


Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


def train(
    recipe: str, x: np.ndarray, w: np.ndarray, e: np.ndarray, label: str, name: str
) -> Triple:
    """Return y, dx and dw of a layer; ``label`` is seed and number of the pass, ``name`` the layer's."""

    def seed(operand: str) -> str:
        return f"{label}/{operand}/{name}"

    t = np.ascontiguousarray
    xt, wt, et = t(x.T), t(w.T), t(e.T)
    plain = {"float32-train": float32, "bf16-train": bf16, "mxfp8-train": mxfp8}
    if recipe in plain:
        q = plain[recipe]
        return product(q(x), q(w)), product(q(e), q(wt)), product(q(et), q(xt))
    if recipe in ("nvfp4-train", "ue5m3-train"):
        q = nvfp4 if recipe == "nvfp4-train" else ue5m3
        low, rotates = 6 * 16 / 17, recipe == "nvfp4-train"

        def turned(rows: np.ndarray) -> np.ndarray:
            return hadamard(rows, 16, te()) if rotates else rows

        return (
            product(q(x), q(w, tile=True)),
            product(q(e, low, seed("dgrad.a")), q(wt, tile=True)),
            product(q(turned(et), low, seed("wgrad.a")), q(turned(xt))),
        )
    if recipe == "tetrajet-v2":
        signs = {p: fresh(f"{label}/{p}.signs", 32) for p in ("forward", "dgrad", "wgrad")}
        a, b = (nvfp4(hadamard(rows, 32, signs["forward"])) for rows in (x, w))

        def gradient(p: str, rows: np.ndarray, other: Cast) -> np.ndarray:
            values = (other.values * other.factor.astype(float)).astype(F)
            left = nvfp4(hadamard(rows, 32, signs[p]), 6 * 16 / 17, seed(f"{p}.a"))
            right = hadamard(t(values.T), 32, signs[p])
            found = product(left, nvfp4(right, 6 * 16 / 17, seed(f"{p}.b")))
            return unhadamard(found, 32, signs["forward"])

        return product(a, b), gradient("dgrad", e, b), gradient("wgrad", et, a)
    if recipe == "mxfp4-train":
        signs = {p: fresh(f"{label}/{p}.signs", 64) for p in ("dgrad", "wgrad")}

        def gradient(p: str, rows: np.ndarray, other: np.ndarray) -> np.ndarray:
            left, right = (hadamard(v, 64, signs[p]) for v in (rows, other))
            return product(mxfp4(left, seed(f"{p}.a")), mxfp4(right, seed(f"{p}.b")))

        return product(mxfp4(x), mxfp4(w)), gradient("dgrad", e, wt), gradient("wgrad", et, xt)
    if recipe == "quartet":
        signs = {p: fresh(f"{label}/{p}.signs", 32) for p in ("dgrad", "wgrad")}
        ones = np.ones(32)
        hx, hw = hadamard(x, 32, ones), hadamard(w, 32, ones)
        a, b = quest(hx), quest(hw)

        def gradient(p: str, rows: np.ndarray, other: Cast, mask: np.ndarray) -> np.ndarray:
            left = hadamard(rows, 32, signs[p])
            right = hadamard(t(other.values.T.astype(F)), 32, signs[p])
            found = product(mxfp4(left, seed(f"{p}.a")), mxfp4(right, seed(f"{p}.b")))
            return unhadamard(found * mask.astype(F), 32, ones)

        return (
            product(a, b),
            gradient("dgrad", e, b, quest_mask(hx)),
            gradient("wgrad", et, a, quest_mask(hw)),
        )
    if recipe == "quartet-ii":
        signs = {p: fresh(f"{label}/{p}.signs", 128) for p in ("dgrad", "wgrad")}
        a, b = four_over_six(x), four_over_six(w)

        def gradient(p: str, rows: np.ndarray, other: Cast) -> np.ndarray:
            values = (other.values * other.factor.astype(float)).astype(F)
            left, right = (hadamard(v, 128, signs[p]) for v in (rows, t(values.T)))
            return product(eden(left, seed(f"{p}.a")), eden(right, seed(f"{p}.b")))

        return product(a, b), gradient("dgrad", e, b), gradient("wgrad", et, a)
    assert recipe == "fp4-dge-occ"
    inside = clamped(x)
    (a, _), (b, y_w) = row_maximum(inside), row_maximum(w)
    y = product(a, b) + product(per_tensor(x - inside, e4m3, 448), b)
    w_hat = (b.values * b.factor.astype(float)).astype(F)
    dx = product(per_tensor(e, e5m2, 57344), per_tensor(t(w_hat.T), e4m3, 448))
    dw = product(per_tensor(et, e5m2, 57344), per_tensor(xt, e4m3, 448))
    return y, dx, dw * dge(y_w)
