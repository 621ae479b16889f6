"""What compiled kernels and their callers agree on: names of rows, tables, scratch, results.

Rule 1: this module imports nothing, so that kept kernels are called without loading a compiler.
"""

from __future__ import annotations

# the names of the types of rows, in the order in which rows of a mean lie together
ROW_NAMES = ("F64", "F32", "F16", "BF16", "F8_E5M2", "F8_E4M3")

# what `combine` and `resolve` return: done, an element not finite, one out of range, and one that
# needs `resolve`, for which the mean has no address
DONE, NOT_FINITE, OUT_OF_RANGE, UNRESOLVED = 0, 1, 2, 3

# elements of a tile, and of its float64 scratch, which has four parts
TILE = 1024
TILE_SCRATCH = 4 * TILE

# where in its int64 scratch `resolve` keeps the row that is being read (first, so that the scratch
# is a table of that one row), leaves its result, keeps the range of limbs in use, is told where the
# weights are, and keeps the limbs
ROW, RESULT, BOTTOM, TOP, ROW_WEIGHTS, LIMBS = range(6)
# four limbs below 2**-1074 for the fraction of a quotient: their 128 bits hold the 63 that a
# divisor shifts out, the 53 of a float64 and its rounding bit, or the 24 of a scale and the five of
# a code; above, room for 2**(1024 + 62 + 29)
SPARE = 4
LIMB_COUNT = SPARE + 72
RESOLVE_SCRATCH = LIMBS + LIMB_COUNT

# a weighted mean, of int64: addresses, but for the group count, the divisor and the permission
GROUPS = 0
GROUP_COUNT = 1
ROWS = 2
WEIGHTS = 3
SOURCES = 4
UNIT = 5
WEIGHT = 6
ALLOWED = 7
FORMAT = 8
FINISH = 9
RESOLVE = 10
# of scaled rows: elements of a run (zero without scales), those of a row of the matrix, its rows in
# a group, and the number of weights, of which each run of each group has its own
RUN = 11
COLUMNS = 12
GROUP_ROWS = 13
WEIGHT_COUNT = 14
# the address of what makes the mean in float32 where it can, zero without one, and its rows
SINGLES = 15
SINGLE_ROWS = 16
# the bits of two float64s: the one nearest to the divisor, and what it leaves of it; the divisor is
# the weight times a whole number, which is 1 but for codes
DIVISOR = 17
REST = 18
FACTOR = 19
MEAN_LENGTH = 20
# the largest weight and divisor of such a mean: 12 bits of a value half-way, or 11 of an element,
# times 12 are exact
SINGLE_WEIGHT = 2**12

# an output format, of int64: its precision, the float64 bits of its smallest normal value and of
# the largest float64 that rounds into range, its quantum; then four patterns of its own, of which a
# missing infinity is zero; and the bytes of an element
PRECISION = 0
NORMAL = 1
LIMIT = 2
QUANTUM = 3
LARGEST = 4
INFINITY = 5
QUIET_NAN = 6
SIGN = 7
WIDTH = 8
FORMAT_LENGTH = 9

# elements that both passes over a tensor of codes sum at a time, so that what they read and write
# stays in the nearest cache
PIECE = 256

# where in the float64 memory that begins with a tile both passes find: for each element of a piece
# the sum of its squared errors and of its squares, the largest exact sum, the largest mean
ERRORS = TILE_SCRATCH + RESOLVE_SCRATCH
SQUARES = ERRORS + PIECE
LARGEST_SUM = SQUARES + PIECE
LARGEST_MEAN = LARGEST_SUM + 1
FOUND_END = LARGEST_MEAN + 1

# where in the float64 memory of a comparison its sums are, each in as many lanes
LANES = 32
ONE, OTHER, PRODUCT, CHANGE, LARGEST_CHANGE, DIFFERING, NONFINITE = range(0, 7 * LANES, LANES)
COMPARED_LENGTH = 7 * LANES
