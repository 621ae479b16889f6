"""Layout of the two int64 tables that a compiled mean reads: the index of each entry."""

from __future__ import annotations

# a weighted mean: addresses, but for the group count, the divisor and the permission
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
MEAN_LENGTH = 15

# an output format: its precision, the float64 bits of its smallest normal value and of the largest
# float64 that rounds into range, its quantum; then four patterns of its own, of which a missing
# infinity is zero; and the bytes of an element
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
