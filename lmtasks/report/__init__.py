"""Stored records become tables, a chart and pages. Nothing is scored or timed here: only read, compared and shown.

`read` (a run folder) -> `summary` (what the numbers say, in words) and `tables` -> `page` (HTML), `markdown`, `charts`;
`write` puts them into the run folder, `publish` into `reports/<plan>/`.
"""
