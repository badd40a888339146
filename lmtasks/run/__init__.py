"""A plan carried out: models adapted and exported, cells scored and timed, a report written."""
