"""The only durable state of a run: create-only objects in a local folder or an S3 bucket."""
