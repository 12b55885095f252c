"""Create-only object stores: a local folder or an S3 bucket."""
