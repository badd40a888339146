"""Where rows come from, how they are cleaned and tokenized, and how they become batches."""
