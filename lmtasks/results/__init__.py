"""Every stored file, once: one frozen pydantic model each, which its writers build and its readers get.

    results.json, statistics.json    `scores`       of `lmtasks eval`
    samples-<task>.jsonl             `sample`       a line of it
    cells/<id>.json                  `cell`         of `lmtasks run`: one variant on one task with one seed
    run.json                         `run`          the plan that a run folder holds
    speed/<variant>.json             `speed`        of `lmtasks run` and `lmtasks bench`
    paired.json                      `comparison`   variants of a run, paired by example
    required.json                    `requirement`  which of them fulfil what production needs
    parity.json, gate.json           `proof`        of a package

`base` holds what they share: how a file is read, checked, migrated and written. JSON Schema: `docs/schema/`.
"""
