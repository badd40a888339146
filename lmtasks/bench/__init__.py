"""Time, memory and size of a variant, measured so that the numbers can be trusted.

One fresh process a variant (`isolate`, `child`), real requests of a fixed sample (`workload`), warm-up until the times
settle (`clock`), percentiles only with enough samples (`percentile`), the machine and its own limits beside them
(`machine`, `machine_peaks`), rounds in alternation where two variants are compared (`compare`).
"""
