"""Rows of data sets: read, cleaned, tokenized, and made into batches."""
