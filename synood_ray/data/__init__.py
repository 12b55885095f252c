"""Where the ID images come from: sources (folder, Parquet, S3), decoding, and the selection of the informative ones."""
